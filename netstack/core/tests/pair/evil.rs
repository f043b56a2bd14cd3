//! A peer with valid keys that says what it likes, segment by segment.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use meshgate_netstack_core::{ListenOn, Node, Source, Stream, TxBatch};

use crate::world::*;

/// A WireGuard peer (in A's place) that sends whatever inner packets it likes.
pub(crate) struct Evil {
    pub(crate) tunnel: Tunn,
    pub(crate) victim: Node,
    pub(crate) batch: TxBatch,
    pub(crate) now: Instant,
    pub(crate) victim_port: u16,
}

impl Evil {
    pub(crate) fn new() -> Self {
        let world = World::new(1);
        let [_, victim] = world.nodes;
        let secret = x25519_dalek::StaticSecret::from(*key(A).expose_bytes());
        let public = x25519_dalek::PublicKey::from(*public_key(B).as_bytes());
        let tunnel = Tunn::new(secret, public, None, None, 5, None);
        let mut evil = Self {
            tunnel,
            victim,
            batch: TxBatch::new(),
            now: world.now,
            victim_port: 7,
        };
        let mut out = [0; 256];
        let TunnResult::WriteToNetwork(initiation) = evil.tunnel.format_handshake_initiation(&mut out, false)
        else {
            panic!("no initiation")
        };
        let initiation = initiation.to_vec();
        evil.deliver(&initiation);
        evil
    }

    /// Sends an inner packet and returns the inner packets that come back.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut out = vec![0; packet.len() + 200];
        let TunnResult::WriteToNetwork(datagram) = self.tunnel.encapsulate(packet, &mut out) else {
            panic!("no session")
        };
        let datagram = datagram.to_vec();
        self.deliver(&datagram)
    }

    /// Sends a segment of the one flow that the tests play with, with so many bytes of payload.
    pub(crate) fn say(&mut self, shape: Shape, payload: usize) {
        let mut packet = segment(ours(5000), victim(self.victim_port), shape);
        packet.extend(std::iter::repeat_n(0, payload));
        let len = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        self.send(&packet);
    }

    /// Opens a connection properly; returns the victim's initial sequence number and its side of it.
    pub(crate) fn establish(&mut self) -> (u32, Stream) {
        self.establish_with(LIVELY_OPTIONS)
    }

    /// The same with these TCP options.
    pub(crate) fn establish_with(&mut self, options: [u8; 12]) -> (u32, Stream) {
        self.victim.listen(ListenOn::Port(7)).unwrap();
        let syn = segment(
            ours(5000),
            victim(7),
            Shape {
                options,
                ..Shape::SYN
            },
        );
        let isn = sequence(&self.send(&syn).remove(0));
        self.say(
            Shape {
                sequence: 2,
                acknowledgement: isn.wrapping_add(1),
                ..Shape::ACK
            },
            0,
        );
        (isn, self.victim.poll_accept().unwrap().1)
    }

    /// Lets time pass for the victim.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(250);
            self.victim.handle_timeout(self.now, &mut self.batch);
            self.poll();
        }
    }

    pub(crate) fn deliver(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.victim
            .handle_datagram(self.now, Source::Direct(endpoint(A)), datagram, &mut self.batch);
        self.poll()
    }

    /// What the victim sends by itself.
    pub(crate) fn poll(&mut self) -> Vec<Vec<u8>> {
        self.victim.poll_transmit(self.now, &mut self.batch);
        let sent: Vec<Vec<u8>> = self
            .batch
            .transmits()
            .flat_map(|run| run.datagrams().map(<[u8]>::to_vec))
            .collect();
        self.batch.clear();
        sent.iter().filter_map(|datagram| self.open(datagram)).collect()
    }

    pub(crate) fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; 2048];
        match self.tunnel.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Some(packet.to_vec())
            }
            TunnResult::WriteToNetwork(keepalive) => {
                let keepalive = keepalive.to_vec();
                self.deliver(&keepalive);
                None
            }
            _ => None,
        }
    }
}

/// MSS 1000, window scale 7, SACK permitted.
pub(crate) const LIVELY_OPTIONS: [u8; 12] = [2, 4, 3, 232, 3, 3, 7, 4, 2, 1, 1, 1];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) window: u16,
    pub(crate) options: [u8; 12],
}

impl Shape {
    pub(crate) const SYN: Self = Self {
        flags: 0x02,
        sequence: 1,
        acknowledgement: 0,
        window: 1000,
        options: [1; 12],
    };
    pub(crate) const ACK: Self = Self {
        flags: 0x10,
        ..Self::SYN
    };
    pub(crate) const RST: Self = Self {
        flags: 0x04,
        ..Self::SYN
    };
}

pub(crate) fn segment(from: SocketAddr, to: SocketAddr, shape: Shape) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else {
        panic!("the world's addresses are of IPv4")
    };
    let mut bytes = vec![0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0];
    bytes.extend_from_slice(&source.octets());
    bytes.extend_from_slice(&destination.octets());
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&shape.sequence.to_be_bytes());
    bytes.extend_from_slice(&shape.acknowledgement.to_be_bytes());
    bytes.extend_from_slice(&[0x80, shape.flags]);
    bytes.extend_from_slice(&shape.window.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&shape.options);
    bytes
}

pub(crate) fn sequence(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[24..28].try_into().unwrap())
}

pub(crate) fn flags(packet: &[u8]) -> u8 {
    packet[20 + 13]
}

pub(crate) fn ours(port: u16) -> SocketAddr {
    SocketAddr::new(inner(A), port)
}

pub(crate) fn victim(port: u16) -> SocketAddr {
    let address: IpAddr = inner(B);
    SocketAddr::new(address, port)
}
