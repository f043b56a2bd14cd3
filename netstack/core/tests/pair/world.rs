//! The virtual network and its clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use meshgate_netstack_core::{
    Buffers, Cidr, ConnectError, Destination, Event, FirewallRule, Inbound, ListenOn, Node, NodeConfig,
    PathKind, PeerConfig, Ports, PrivateKey, Progress, Protocol, PublicKey, Silence, Source, Stream, TxBatch,
    Verdict,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clock;

/// Index of a node.
pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
/// Turns at one instant from which on a node counts as spinning.
const SPIN: usize = 2000;

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) nodes: [Node; 2],
    pub(crate) events: [Vec<Event>; 2],
    pub(crate) accepted: [Vec<Stream>; 2],
    /// Where the nodes are; datagrams to other addresses vanish.
    pub(crate) endpoints: [SocketAddr; 2],
    pub(crate) netem: Netem,
    /// Sees every datagram that leaves a node; `false` drops it.
    pub(crate) filter: Filter,
    settings: Settings,
    /// How often each node was restarted: it draws other ports in each life.
    lives: [u8; 2],
    network: BinaryHeap<Reverse<Flying>>,
    batch: TxBatch,
    rng: StdRng,
    sequence: u64,
}

type Filter = Box<dyn FnMut(usize, &[u8]) -> bool>;

/// A datagram on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrival: Instant,
    sequence: u64,
    to: usize,
    way: Way,
    datagram: Vec<u8>,
}

/// How a datagram travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// From this address.
    Straight(SocketAddr),
    /// Through the relay, which knows the sender.
    Relayed,
}

/// What both nodes are made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) silence: Silence,
    pub(crate) buffers: Buffers,
    pub(crate) mtu: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            silence: Silence::FailStreams,
            buffers: Buffers {
                receive: 64 << 10,
                transmit: 64 << 10,
            },
            mtu: 1280,
        }
    }
}

/// What the network does to datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Netem {
    pub(crate) delay: Duration,
    /// Every datagram is late by up to this much.
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    /// Share of datagrams that are late by up to 20 ms.
    pub(crate) reorder: f64,
    /// Larger datagrams vanish, without a word as on most paths.
    pub(crate) largest: usize,
}

impl Netem {
    pub(crate) const CLEAN: Self = Self {
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        largest: usize::MAX,
    };
}

impl World {
    /// Two nodes that know each other's endpoints and let everything in.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_silence(seed, Silence::FailStreams)
    }

    pub(crate) fn with_silence(seed: u64, silence: Silence) -> Self {
        Self::with(
            seed,
            Settings {
                silence,
                ..Settings::default()
            },
        )
    }

    pub(crate) fn with(seed: u64, settings: Settings) -> Self {
        let start = Instant::now();
        clock::start();
        let mut world = Self {
            start,
            now: start,
            nodes: [node(A, start, 0, settings), node(B, start, 0, settings)],
            events: [Vec::new(), Vec::new()],
            accepted: [Vec::new(), Vec::new()],
            endpoints: [endpoint(A), endpoint(B)],
            netem: Netem::CLEAN,
            filter: Box::new(|_, _| true),
            settings,
            lives: [0, 0],
            network: BinaryHeap::new(),
            batch: TxBatch::new(),
            rng: StdRng::seed_from_u64(seed),
            sequence: 0,
        };
        world.introduce(A);
        world.introduce(B);
        world
    }

    /// Starts a node afresh, with its key and nothing else; it learns the other's endpoint from packets.
    pub(crate) fn restart(&mut self, which: usize) {
        self.lives[which] = self.lives[which].wrapping_add(1);
        self.nodes[which] = node(which, self.now, self.lives[which], self.settings);
        self.accepted[which].clear();
        self.nodes[which].upsert_peer(self.now, peer(1 - which));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until `done` holds; panics after `patience` of virtual time.
    pub(crate) fn run_until(&mut self, patience: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + patience;
        while !done(self) {
            assert!(self.step(deadline), "not done after {patience:?}");
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let deadline = self.now + time;
        while self.step(deadline) {}
    }

    pub(crate) fn dial(&mut self, from: usize, port: u16, deadline: Duration) -> Stream {
        let to = SocketAddr::new(inner(1 - from), port);
        self.nodes[from].connect(self.now, to, deadline).unwrap()
    }

    /// Waits for a dial to succeed or fail.
    pub(crate) fn finish_dial(&mut self, stream: &Stream) -> Result<(), ConnectError> {
        let mut outcome = Poll::Pending;
        self.run_until(Duration::from_mins(1), |_| {
            outcome = stream.poll_connected(&mut context());
            outcome.is_ready()
        });
        match outcome {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("the run ended"),
        }
    }

    /// A connected pair of streams: the dialer's and the listener's.
    pub(crate) fn connected(&mut self, from: usize) -> (Stream, Stream) {
        let port = 1000 + u16::try_from(self.sequence % 1000).unwrap();
        let listener = self.nodes[1 - from].listen(ListenOn::Port(port)).unwrap();
        let dialed = self.dial(from, port, Duration::from_mins(1));
        self.finish_dial(&dialed).unwrap();
        self.run_until(Duration::from_mins(1), |world| {
            !world.accepted[1 - from].is_empty()
        });
        self.nodes[1 - from].unlisten(listener);
        (dialed, self.accepted[1 - from].remove(0))
    }

    /// Puts a datagram on the wire as if `source` had sent it to `to`.
    pub(crate) fn inject(&mut self, source: SocketAddr, to: usize, datagram: Vec<u8>) {
        self.sequence += 1;
        self.network.push(Reverse(Flying {
            arrival: self.now,
            sequence: self.sequence,
            to,
            way: Way::Straight(source),
            datagram,
        }));
    }

    /// Lets the nodes work and moves the clock to the next thing that happens; `false` when that is after `deadline`.
    pub(crate) fn step(&mut self, deadline: Instant) -> bool {
        self.drain();
        let timeouts = self.nodes.iter().filter_map(Node::poll_timeout);
        let arrival = self.network.peek().map(|Reverse(flying)| flying.arrival);
        let Some(next) = timeouts.chain(arrival).min() else {
            return self.skip_to(deadline);
        };
        if next > deadline {
            return self.skip_to(deadline);
        }
        self.move_to(self.now.max(next));
        while let Some(Reverse(flying)) = self.network.peek()
            && flying.arrival <= self.now
        {
            let Some(Reverse(Flying {
                to, way, datagram, ..
            })) = self.network.pop()
            else {
                break;
            };
            let source = match way {
                Way::Straight(from) => Source::Direct(from),
                Way::Relayed => Source::Relay(public_key(1 - to)),
            };
            self.nodes[to].handle_datagram(self.now, source, &datagram, &mut self.batch);
            self.emit(to);
        }
        for which in [A, B] {
            self.nodes[which].handle_timeout(self.now, &mut self.batch);
            self.emit(which);
        }
        self.drain();
        for (which, node) in self.nodes.iter().enumerate() {
            assert!(
                node.poll_timeout().is_none_or(|at| at > self.now),
                "node {which} asks for a timer in the past"
            );
        }
        true
    }

    fn skip_to(&mut self, deadline: Instant) -> bool {
        self.move_to(deadline);
        false
    }

    fn move_to(&mut self, now: Instant) {
        self.now = now;
        clock::advance(self.elapsed());
    }

    fn drain(&mut self) {
        for which in [A, B] {
            let mut turns = 0;
            loop {
                let progress = self.nodes[which].poll_transmit(self.now, &mut self.batch);
                self.emit(which);
                turns += 1;
                assert!(turns < SPIN, "node {which} never finishes its turn");
                if progress == Progress::Done {
                    break;
                }
            }
            while let Some(event) = self.nodes[which].poll_event() {
                self.events[which].push(event);
            }
            while let Some((_, stream)) = self.nodes[which].poll_accept() {
                self.accepted[which].push(stream);
            }
        }
    }

    fn emit(&mut self, from: usize) {
        let mut sent = Vec::new();
        for run in self.batch.transmits() {
            let way = match run.destination {
                Destination::Direct(to) if to == self.endpoints[1 - from] => {
                    Way::Straight(self.endpoints[from])
                }
                Destination::Direct(_) => continue,
                Destination::Relay(_) => Way::Relayed,
            };
            sent.extend(run.datagrams().map(|datagram| (way, datagram.to_vec())));
        }
        self.batch.clear();
        for (way, datagram) in sent {
            let lost = self.rng.random_bool(self.netem.loss) || datagram.len() > self.netem.largest;
            if (self.filter)(from, &datagram) && !lost {
                self.carry(1 - from, way, &datagram);
            }
        }
    }

    fn carry(&mut self, to: usize, way: Way, datagram: &[u8]) {
        let copies = if self.rng.random_bool(self.netem.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let late = self.rng.random_bool(self.netem.reorder);
            let extra = if late { self.rng.random_range(0..20_000) } else { 0 };
            let jitter = self.netem.jitter.mul_f64(self.rng.random());
            self.sequence += 1;
            self.network.push(Reverse(Flying {
                arrival: self.now + self.netem.delay + jitter + Duration::from_micros(extra),
                sequence: self.sequence,
                to,
                way,
                datagram: datagram.to_vec(),
            }));
        }
    }

    /// Tells a node about the other one.
    pub(crate) fn introduce(&mut self, which: usize) {
        self.nodes[which].upsert_peer(self.now, peer(1 - which));
        self.nodes[which].set_path(
            self.now,
            &key(1 - which).public_key(),
            PathKind::Direct(self.endpoints[1 - which]),
        );
    }
}

pub(crate) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

pub(crate) fn key(which: usize) -> PrivateKey {
    PrivateKey::from_bytes([u8::try_from(which).unwrap() + 1; 32])
}

pub(crate) fn public_key(which: usize) -> PublicKey {
    key(which).public_key()
}

pub(crate) fn endpoint(which: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, u8::try_from(which).unwrap() + 1), 51820))
}

pub(crate) fn inner(which: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(100, 64, 0, u8::try_from(which).unwrap() + 1))
}

pub(crate) fn peer(which: usize) -> PeerConfig {
    PeerConfig {
        public_key: public_key(which),
        preshared_key: None,
        allowed_ips: vec![Cidr::host(inner(which))],
        keepalive: None,
    }
}

pub(crate) fn allow(ports: Ports) -> FirewallRule {
    FirewallRule {
        source: "0.0.0.0/0".parse().unwrap(),
        protocol: Protocol::All,
        ports,
        verdict: Verdict::Accept,
    }
}

fn node(which: usize, now: Instant, life: u8, settings: Settings) -> Node {
    let config = NodeConfig {
        private_key: key(which),
        addresses: vec![inner(which)],
        mtu: settings.mtu,
        buffers: settings.buffers,
        inbound: Inbound::Firewall,
        silence: settings.silence,
    };
    let mut seed = [u8::try_from(which).unwrap(); 32];
    seed[0] = life;
    let mut node = Node::new(config, now, seed);
    node.set_firewall(vec![allow(Ports::All)]);
    node
}
