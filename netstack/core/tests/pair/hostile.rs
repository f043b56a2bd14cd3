//! A peer with valid keys and bad manners, and strangers without keys.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use meshgate_netstack_core::{ListenOn, Node, PathKind, Ports, Source, Stream, TxBatch};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr};

use crate::world::*;

/// A WireGuard peer (in A's place) that sends whatever inner packets it likes.
struct Evil {
    tunnel: Tunn,
    victim: Node,
    batch: TxBatch,
    now: Instant,
    victim_port: u16,
}

impl Evil {
    fn new() -> Self {
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
    fn send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut out = vec![0; packet.len() + 200];
        let TunnResult::WriteToNetwork(datagram) = self.tunnel.encapsulate(packet, &mut out) else {
            panic!("no session")
        };
        let datagram = datagram.to_vec();
        self.deliver(&datagram)
    }

    /// Sends a segment of the one flow that the tests play with, with so many bytes of payload.
    fn say(&mut self, shape: Shape, payload: usize) {
        let mut packet = segment(ours(5000), victim(self.victim_port), shape);
        packet.extend(std::iter::repeat_n(0, payload));
        let len = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        self.send(&packet);
    }

    /// Opens a connection properly; returns the victim's initial sequence number and its side of it.
    fn establish(&mut self) -> (u32, Stream) {
        self.victim.listen(ListenOn::Port(7)).unwrap();
        let syn = segment(
            ours(5000),
            victim(7),
            Shape {
                options: LIVELY_OPTIONS,
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

    fn run(&mut self, isn: u32, stream: &Stream, steps: Vec<Step>) {
        let mut cx = context();
        for step in steps {
            match step {
                Step::Segment(shape, payload) => {
                    let acknowledgement = isn.wrapping_add(shape.acknowledgement);
                    self.say(
                        Shape {
                            acknowledgement,
                            ..shape
                        },
                        payload,
                    );
                }
                Step::Write(len) => drop(stream.poll_write(&mut cx, &[IoSlice::new(&vec![0; len])])),
                Step::Read(len) => drop(stream.poll_read(&mut cx, &mut vec![0; len])),
                Step::Shutdown => stream.shutdown(),
                Step::Wait(millis) => {
                    self.now += Duration::from_millis(millis);
                    self.victim.handle_timeout(self.now, &mut self.batch);
                    self.poll();
                }
            }
        }
    }

    fn deliver(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.victim
            .handle_datagram(self.now, Source::Direct(endpoint(A)), datagram, &mut self.batch);
        self.poll()
    }

    /// What the victim sends by itself.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        self.victim.poll_transmit(self.now, &mut self.batch);
        let sent: Vec<Vec<u8>> = self
            .batch
            .transmits()
            .flat_map(|run| run.datagrams().map(<[u8]>::to_vec))
            .collect();
        self.batch.clear();
        sent.iter().filter_map(|datagram| self.open(datagram)).collect()
    }

    fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
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

#[test]
fn a_spoofed_source_is_dropped() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();
    let spoofed = segment("100.64.0.77:5000".parse().unwrap(), victim(7), Shape::SYN);

    assert_eq!(evil.send(&spoofed), Vec::<Vec<u8>>::new());

    assert_eq!(evil.victim.stats().rx_spoofed, 1);
    assert_eq!(evil.victim.stats().connections, 0);
}

#[test]
fn a_foreign_destination_is_dropped() {
    let mut evil = Evil::new();
    let routed = segment(ours(5000), "100.64.0.99:7".parse().unwrap(), Shape::SYN);

    assert_eq!(evil.send(&routed), Vec::<Vec<u8>>::new());

    assert_eq!(evil.victim.stats().rx_spoofed, 1);
}

#[test]
fn a_honest_syn_is_answered() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();

    let answers = evil.send(&segment(ours(5000), victim(7), Shape::SYN));

    assert_eq!(answers.len(), 1);
    assert_eq!(flags(&answers[0]), 0x12);
}

#[test]
fn a_stray_segment_is_reset_and_a_reset_is_not() {
    let mut evil = Evil::new();

    let answers = evil.send(&segment(ours(5000), victim(7), Shape::ACK));
    assert_eq!(answers.len(), 1);
    assert_eq!(flags(&answers[0]), 0x04);

    assert_eq!(
        evil.send(&segment(ours(5000), victim(7), Shape::RST)),
        Vec::<Vec<u8>>::new()
    );
}

#[test]
fn half_open_connections_are_bounded() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();

    for port in 1..3000 {
        evil.send(&segment(ours(port), victim(7), Shape::SYN));
    }
    assert_eq!(evil.victim.stats().connections, 1024);

    // They give up by themselves.
    let mut now = evil.now;
    for _ in 0..130 {
        now += Duration::from_millis(250);
        evil.victim.handle_timeout(now, &mut evil.batch);
        while evil.victim.poll_transmit(now, &mut evil.batch) != meshgate_netstack_core::Progress::Done {
            evil.batch.clear();
        }
        evil.batch.clear();
    }
    assert_eq!(evil.victim.stats().connections, 0);
}

#[test]
fn data_beyond_the_first_window_is_dropped() {
    let mut evil = Evil::new();
    let (isn, stream) = evil.establish();
    let acknowledgement = isn.wrapping_add(1);
    let data = |at: u32| Shape {
        sequence: 2 + at,
        acknowledgement,
        ..Shape::ACK
    };
    let window = 65_535;
    evil.say(data(window - 600), 1200);
    evil.say(data(window + 600), 1200);

    for at in (0..window).step_by(1200) {
        evil.say(data(at), usize::try_from(window - at).unwrap().min(1200));
    }

    let mut received = vec![0; 100_000];
    let Poll::Ready(Ok(len)) = stream.poll_read(&mut context(), &mut received) else {
        panic!("nothing came")
    };
    assert_eq!(len, 65_535);
    assert_eq!(evil.victim.stats().faults, 0);
}

#[test]
fn denied_ports_say_nothing() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();
    evil.victim.set_firewall(vec![allow(Ports::single(8))]);

    assert_eq!(
        evil.send(&segment(ours(5000), victim(7), Shape::SYN)),
        Vec::<Vec<u8>>::new()
    );
}

#[test]
fn pings_are_answered_when_the_rules_allow() {
    let mut evil = Evil::new();
    let mut ping = vec![0; 28];
    ping[..4].copy_from_slice(&[0x45, 0, 0, 28]);
    ping[8..10].copy_from_slice(&[64, 1]);
    ping[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
    ping[20] = 8;
    ping[22..24].copy_from_slice(&[0xf7, 0xff]);

    let answers = evil.send(&ping);
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0][20], &answers[0][12..20]),
        (0, &[100, 64, 0, 2, 100, 64, 0, 1][..])
    );

    evil.victim.set_firewall(vec![]);
    assert_eq!(evil.send(&ping), Vec::<Vec<u8>>::new());
}

#[test]
fn an_unknown_keys_initiation_is_ignored() {
    let World {
        nodes: [_, mut victim],
        now,
        ..
    } = World::new(1);
    let secret = x25519_dalek::StaticSecret::from([42; 32]);
    let public = x25519_dalek::PublicKey::from(*public_key(B).as_bytes());
    let mut stranger = Tunn::new(secret, public, None, None, 5, None);
    let mut out = [0; 256];
    let TunnResult::WriteToNetwork(initiation) = stranger.format_handshake_initiation(&mut out, false) else {
        panic!("no initiation")
    };
    let mut batch = TxBatch::new();

    victim.handle_datagram(now, Source::Direct(endpoint(A)), initiation, &mut batch);

    assert!(batch.is_empty());
    assert_eq!(victim.stats().rx_rejected, 1);
}

#[test]
fn a_relay_may_not_lend_its_name() {
    let World {
        nodes: [mut honest, mut victim],
        now,
        ..
    } = World::new(1);
    victim.set_path(now, &public_key(A), PathKind::Relay);
    honest.initiate(&public_key(B));
    let mut batch = TxBatch::new();
    honest.poll_transmit(now, &mut batch);
    let initiation = batch.transmits().next().unwrap().contents.to_vec();
    batch.clear();

    victim.handle_datagram(now, Source::Relay(key(7).public_key()), &initiation, &mut batch);
    assert!(batch.is_empty());

    victim.handle_datagram(now, Source::Relay(public_key(A)), &initiation, &mut batch);
    assert!(!batch.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_datagrams_never_panic(
        datagrams in prop::collection::vec((prop::option::of(1..5u8), prop::collection::vec(any::<u8>(), 0..300)), 1..50),
        relayed: bool,
    ) {
        let World { nodes: [mut node, _], now, .. } = World::new(1);
        let mut batch = TxBatch::new();
        for (kind, mut bytes) in datagrams {
            if let (Some(kind), Some(head)) = (kind, bytes.first_chunk_mut::<4>()) {
                *head = [kind, 0, 0, 0];
                let len = match kind { 1 => 148, 2 => 92, 3 => 64, _ => bytes.len() };
                bytes.resize(len, 0);
            }
            let source = if relayed { Source::Relay(public_key(B)) } else { Source::Direct(endpoint(B)) };
            node.handle_datagram(now, source, &bytes, &mut batch);
            batch.clear();
        }
    }

    #[test]
    fn random_segments_to_an_accepted_connection_break_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let mut evil = Evil::new();
        let (isn, stream) = evil.establish();
        evil.run(isn, &stream, steps);
        prop_assert_eq!(evil.victim.stats().faults, 0);
    }

    #[test]
    fn random_segments_to_a_dialed_connection_break_nothing(
        answered: bool,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut evil = Evil::new();
        let stream = evil.victim.connect(evil.now, ours(5000), Duration::from_mins(1)).unwrap();
        let syn = evil.poll().remove(0);
        evil.victim_port = u16::from_be_bytes([syn[20], syn[21]]);
        let isn = sequence(&syn);
        if answered {
            let shape = Shape { flags: 0x12, acknowledgement: isn.wrapping_add(1), options: LIVELY_OPTIONS, ..Shape::SYN };
            evil.say(shape, 0);
        }
        evil.run(isn, &stream, steps);
        prop_assert_eq!(evil.victim.stats().faults, 0);
    }

    #[test]
    fn random_inner_packets_never_panic(packets in prop::collection::vec(inner_packet(), 1..40)) {
        let mut evil = Evil::new();
        evil.victim.listen(ListenOn::Port(7)).unwrap();
        let mut now = evil.now;
        for packet in packets {
            evil.send(&packet);
            now += Duration::from_millis(100);
            evil.now = now;
            evil.victim.handle_timeout(now, &mut evil.batch);
            evil.batch.clear();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Sequence and acknowledgement numbers are relative to the initial ones.
    Segment(Shape, usize),
    Write(usize),
    Read(usize),
    Shutdown,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let near = || {
        prop_oneof![
            4 => 0..4000u32,
            1 => 0..80_000u32,
            1 => (u32::MAX - 3000)..=u32::MAX,
            1 => any::<u32>(),
        ]
    };
    let flags = prop_oneof![4 => Just(0x10u8), 2 => Just(0x18), 1 => Just(0x11), 1 => any::<u8>()];
    let shape = (
        near(),
        near(),
        flags,
        any::<u16>(),
        any::<[u8; 12]>(),
        any::<bool>(),
    )
        .prop_map(|(sequence, acknowledgement, flags, window, noise, noisy)| {
            let options = if noisy { noise } else { [1; 12] };
            Shape {
                flags,
                sequence,
                acknowledgement,
                window,
                options,
            }
        });
    prop_oneof![
        8 => (shape, 0..1300usize).prop_map(|(shape, payload)| Step::Segment(shape, payload)),
        2 => (0..5000usize).prop_map(Step::Write),
        1 => (0..5000usize).prop_map(Step::Read),
        1 => Just(Step::Shutdown),
        2 => (0..3000u64).prop_map(Step::Wait),
    ]
}

/// MSS 1000, window scale 7, SACK permitted.
const LIVELY_OPTIONS: [u8; 12] = [2, 4, 3, 232, 3, 3, 7, 4, 2, 1, 1, 1];

/// Random bytes, or a segment of one of a few flows with random fields and broken in one place.
fn inner_packet() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let shaped = (
        5000..5003u16,
        any::<u8>(),
        any::<u32>(),
        0..4u32,
        prop::collection::vec(any::<u8>(), 0..50),
    )
        .prop_map(|(port, flags, sequence, near, payload)| {
            let sequence = if flags & 1 == 0 { near } else { sequence };
            let mut packet = segment(
                ours(port),
                victim(7),
                Shape {
                    flags,
                    sequence,
                    ..Shape::SYN
                },
            );
            packet.extend_from_slice(&payload);
            let len = u16::try_from(packet.len()).unwrap();
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet
        });
    let broken =
        (shaped.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, byte)| {
            let at = at.index(packet.len());
            packet[at] = byte;
            packet
        });
    prop_oneof![1 => noise, 4 => shaped, 2 => broken]
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    window: u16,
    options: [u8; 12],
}

impl Shape {
    const SYN: Self = Self {
        flags: 0x02,
        sequence: 1,
        acknowledgement: 0,
        window: 1000,
        options: [1; 12],
    };
    const ACK: Self = Self {
        flags: 0x10,
        ..Self::SYN
    };
    const RST: Self = Self {
        flags: 0x04,
        ..Self::SYN
    };
}

fn segment(from: SocketAddr, to: SocketAddr, shape: Shape) -> Vec<u8> {
    const LEN: usize = 32;
    let ip = IpRepr::new(from.ip().into(), to.ip().into(), IpProtocol::Tcp, LEN, 64);
    let mut bytes = vec![0; ip.header_len()];
    ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
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

fn sequence(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[24..28].try_into().unwrap())
}

fn flags(packet: &[u8]) -> u8 {
    packet[20 + 13]
}

fn ours(port: u16) -> SocketAddr {
    SocketAddr::new(inner(A), port)
}

fn victim(port: u16) -> SocketAddr {
    let address: IpAddr = inner(B);
    SocketAddr::new(address, port)
}
