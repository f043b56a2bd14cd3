//! Datagrams into the core: strangers that send anything, a peer with valid keys that seals any inner packet,
//! and an owner that reads, writes, dials and closes meanwhile.
//!
//! Whatever happens, a turn ends, timers lie ahead, what leaves fits the path and comes from our address, bytes
//! are read in the order of their sequence numbers, and at the end nothing
//! is left.

#[path = "netstack/input.rs"]
mod input;
#[path = "netstack/packets.rs"]
mod packets;

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use meshgate_netstack_core::{
    Buffers, Cidr, FirewallRule, Inbound, ListenOn, Node, NodeConfig, PathKind, PeerConfig, Ports,
    PrivateKey, Progress, Protocol, PublicKey, Silence, Source, Stream, TxBatch, Verdict,
};
use x25519_dalek::StaticSecret;

use self::input::Input;
use self::packets::{Addresses, Draft};

/// Largest inner packet.
const MTU: u16 = 1280;

/// What a data message adds to it: header, tag and padding.
const OVERHEAD: usize = 16 + 16 + 16;

/// Turns at one instant from which on the node counts as spinning.
const SPIN: usize = 2000;

/// Steps of one run.
const STEPS: usize = 96;

/// Streams that the owner keeps.
const STREAMS: usize = 16;

/// The bytes are steps.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut table = Table::new();
    for _ in 0..STEPS {
        let Some(step) = input.try_byte() else {
            break;
        };
        table.step(step, &mut input);
    }
    table.end();
}

/// The node under test and everybody around it.
struct Table {
    node: Node,
    batch: TxBatch,
    now: Instant,
    tunnel: Tunn,
    streams: Vec<Owned>,
    /// The last datagrams of the peer, to be sent again or damaged.
    last: Vec<u8>,
    /// What a well-behaved counterpart would say next.
    draft: Draft,
}

/// A stream and where its owner is. Every byte on the way is the end of its place in the stream.
struct Owned {
    stream: Stream,
    written: u8,
    read: Option<u8>,
}

impl Owned {
    fn write(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|at| self.written.wrapping_add(low(at))).collect();
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(len)) = self.stream.poll_write(&mut cx, &[IoSlice::new(&bytes)]) {
            self.written = self.written.wrapping_add(low(len));
        }
    }

    fn read(&mut self, len: usize) {
        let mut bytes = vec![0; len];
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(len)) = self.stream.poll_read(&mut cx, &mut bytes) {
            for byte in &bytes[..len] {
                let due = self.read.map_or(*byte, |last| last.wrapping_add(1));
                assert_eq!(*byte, due, "bytes are out of order");
                self.read = Some(*byte);
            }
        }
    }
}

impl Table {
    fn new() -> Self {
        let now = Instant::now();
        let key = PrivateKey::from_bytes([2; 32]);
        let tunnel = Tunn::new(
            StaticSecret::from([1; 32]),
            x25519_dalek::PublicKey::from(*our_key().as_bytes()),
            None,
            None,
            5,
            None,
        );
        let config = NodeConfig {
            private_key: key,
            addresses: vec![OURS.into(), OURS_V6.into()],
            mtu: MTU,
            buffers: Buffers {
                receive: 16 << 10,
                transmit: 16 << 10,
            },
            inbound: Inbound::Firewall,
            silence: Silence::Report,
        };
        let mut node = Node::new(config, now, [9; 32]);
        node.set_firewall(rules());
        node.upsert_peer(now, peer_config(peer_key()));
        node.set_path(now, &peer_key(), PathKind::Direct(endpoint()));
        for port in [7, 8] {
            node.listen(ListenOn::Port(port)).expect("the port is free");
        }
        let mut table = Self {
            node,
            batch: TxBatch::new(),
            now,
            tunnel,
            streams: Vec::new(),
            last: Vec::new(),
            draft: Draft::default(),
        };
        let mut out = [0; 256];
        if let TunnResult::WriteToNetwork(initiation) =
            table.tunnel.format_handshake_initiation(&mut out, false)
        {
            let initiation = initiation.to_vec();
            table.deliver(Source::Direct(endpoint()), &initiation);
        }
        table
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        match step % 16 {
            0 => {
                let len = usize::from(input.byte());
                let datagram = input.bytes(len).to_vec();
                self.deliver(Source::Direct(stranger()), &datagram);
            }
            1 => {
                let len = usize::from(input.byte());
                let datagram = input.bytes(len).to_vec();
                self.deliver(Source::Relay(peer_key()), &datagram);
            }
            2 => self.repeat(input),
            3 => {
                let len = usize::from(input.word() % 2048);
                let packet = input.bytes(len).to_vec();
                self.seal(&packet);
            }
            4 => {
                let packet = packets::other(ADDRESSES, input);
                self.seal(&packet);
            }
            5 => self.wait(Duration::from_millis(u64::from(input.word()))),
            6 => self.wait(Duration::from_secs(u64::from(input.byte()))),
            7 => self.own(input),
            8 => self.configure(input),
            _ => {
                let packet = self.draft.segment(ADDRESSES, input);
                self.seal(&packet);
            }
        }
    }

    /// The peer's last datagram once more, from elsewhere, or with one byte changed.
    fn repeat(&mut self, input: &mut Input<'_>) {
        let mut datagram = self.last.clone();
        let (at, mask) = (usize::from(input.word()), input.byte());
        if let Some(byte) = datagram.get_mut(at) {
            *byte ^= mask;
        }
        let source = match input.byte() % 3 {
            0 => Source::Direct(endpoint()),
            1 => Source::Direct(stranger()),
            _ => Source::Relay(peer_key()),
        };
        self.deliver(source, &datagram);
    }

    fn seal(&mut self, packet: &[u8]) {
        let mut out = vec![0; packet.len() + 200];
        // Without a session it begins a handshake; a packet of no version is sealed all the same.
        if let TunnResult::WriteToNetwork(datagram) = self.tunnel.encapsulate(packet, &mut out) {
            let datagram = datagram.to_vec();
            self.deliver(Source::Direct(endpoint()), &datagram);
            self.last = datagram;
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.node.handle_timeout(self.now, &mut self.batch);
        self.settle();
    }

    /// The owner does something with a stream.
    fn own(&mut self, input: &mut Input<'_>) {
        let (what, which, len) = (input.byte(), usize::from(input.byte()), usize::from(input.word()));
        if what % 8 == 0 {
            let to = SocketAddr::new(THEIRS.into(), 7000 + u16::from(input.byte() % 4));
            if let Ok(stream) = self.node.connect(self.now, to, Duration::from_secs(20)) {
                self.keep(stream);
            }
        } else if let Some(at) = which.checked_rem(self.streams.len()) {
            let owned = &mut self.streams[at];
            match what % 8 {
                1 => owned.stream.shutdown(),
                2 => owned.stream.abort(),
                3 => drop(self.streams.swap_remove(at)),
                4 | 5 => owned.write(len),
                _ => owned.read(len),
            }
        }
        self.settle();
    }

    /// The owner changes something about the node.
    fn configure(&mut self, input: &mut Input<'_>) {
        let key = peer_key();
        match input.byte() % 8 {
            0 => self.node.set_path(self.now, &key, PathKind::Relay),
            1 => self.node.set_path(self.now, &key, PathKind::Direct(endpoint())),
            2 => self.node.set_path(self.now, &key, PathKind::None),
            3 => self.node.set_firewall(Vec::new()),
            4 => self.node.set_firewall(rules()),
            5 => self.node.initiate(&key),
            6 => self.node.upsert_peer(self.now, peer_config(key)),
            _ => self.node.abort_all(),
        }
        self.settle();
    }

    fn keep(&mut self, stream: Stream) {
        if self.streams.len() >= STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(Owned {
            stream,
            written: 0,
            read: None,
        });
    }

    fn deliver(&mut self, source: Source, datagram: &[u8]) {
        self.node
            .handle_datagram(self.now, source, datagram, &mut self.batch);
        self.settle();
    }

    /// Lets the node finish its turn, and another one if its timers are due.
    fn settle(&mut self) {
        self.drain();
        if self.node.poll_timeout().is_some_and(|at| at <= self.now) {
            self.node.handle_timeout(self.now, &mut self.batch);
            self.drain();
            let next = self.node.poll_timeout();
            assert!(
                next.is_none_or(|at| at > self.now),
                "the node asks for a timer in the past"
            );
        }
    }

    /// Lets the peer hear what the node has to say, until it has nothing more.
    fn drain(&mut self) {
        for turn in 0.. {
            assert!(turn < SPIN, "the node never finishes its turn");
            let progress = self.node.poll_transmit(self.now, &mut self.batch);
            let runs = self.batch.transmits();
            let sent: Vec<Vec<u8>> = runs.flat_map(|run| run.datagrams().map(<[u8]>::to_vec)).collect();
            self.batch.clear();
            for datagram in sent {
                self.hear(&datagram);
            }
            if progress == Progress::Done && self.batch.is_empty() {
                break;
            }
        }
        while let Some((_, stream)) = self.node.poll_accept() {
            self.keep(stream);
        }
        while self.node.poll_event().is_some() {}
    }

    fn hear(&mut self, datagram: &[u8]) {
        assert!(datagram.len() <= usize::from(MTU) + OVERHEAD);
        let mut out = vec![0; 2048];
        match self.tunnel.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                assert!(packet.len() <= usize::from(MTU));
                self.draft.hear(ADDRESSES, packet);
            }
            TunnResult::WriteToNetwork(answer) => {
                let answer = answer.to_vec();
                self.node
                    .handle_datagram(self.now, Source::Direct(endpoint()), &answer, &mut self.batch);
            }
            TunnResult::Done | TunnResult::Err(_) => {}
        }
    }

    /// Everybody goes; nothing may stay.
    fn end(mut self) {
        self.streams.clear();
        self.node.abort_all();
        self.settle();
        self.node.remove_peer(&peer_key());
        for _ in 0..4 {
            self.wait(Duration::from_mins(2));
        }
        let stats = self.node.stats();
        assert_eq!((stats.connections, stats.peers), (0, 0));
    }
}

const OURS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const THEIRS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const THEIRS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const ADDRESSES: Addresses = Addresses {
    ours: OURS,
    theirs: THEIRS,
    ours_v6: OURS_V6,
    theirs_v6: THEIRS_V6,
};

fn low(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

fn peer_key() -> PublicKey {
    static KEY: LazyLock<PublicKey> = LazyLock::new(|| PrivateKey::from_bytes([1; 32]).public_key());
    *KEY
}

fn our_key() -> PublicKey {
    static KEY: LazyLock<PublicKey> = LazyLock::new(|| PrivateKey::from_bytes([2; 32]).public_key());
    *KEY
}

fn endpoint() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 4000))
}

fn peer_config(public_key: PublicKey) -> PeerConfig {
    PeerConfig {
        public_key,
        preshared_key: None,
        allowed_ips: [IpAddr::from(THEIRS), IpAddr::from(THEIRS_V6)]
            .map(Cidr::host)
            .to_vec(),
        keepalive: None,
    }
}

fn rules() -> Vec<FirewallRule> {
    ["0.0.0.0/0", "::/0"]
        .map(|source| FirewallRule {
            source: source.parse().expect("it is a range"),
            protocol: Protocol::All,
            ports: Ports::All,
            verdict: Verdict::Accept,
        })
        .to_vec()
}
