//! The servers and the network between two peers, and a WireGuard of a few lines.

mod keys;
mod relay;
mod traffic;
mod weather;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore as _, SeedableRng};

use self::keys::Keys;
use self::traffic::Wire;
pub(super) use self::weather::Weather;
use super::super::{Ice, Output, PeerConnection, Reach, Role, Route};

/// How often WireGuard and the applications act.
const TICK: Duration = Duration::from_millis(250);
/// Words that a machine may want to say in ten seconds, and outputs of one input.
const MOST_WORDS: u32 = 60;
const MOST_OUTPUTS: usize = 16;
/// Addresses and the like that a machine may keep: eight that are tried, and one in use.
const MOST_HELD: usize = 9;
/// Sessions that WireGuard keeps beside each other.
const MOST_SESSIONS: usize = 8;
/// Messages under way at a time.
const MOST_FLYING: usize = 500;
/// Steps of two minutes, many times over.
const MOST_STEPS: u32 = 100_000;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    /// Ways that were left for others, and verdicts that the peer is gone.
    pub(super) changes: u32,
    /// Words that the machines wanted to say, handshakes included.
    pub(super) said: u32,
    weather: Weather,
    sides: [Side; 2],
    /// Sides that the applications of keep talking.
    talkers: u8,
    flying: BinaryHeap<Reverse<Flying>>,
    sequence: u64,
    sessions: u64,
    next_tick: Instant,
    rng: SmallRng,
}

#[derive(Debug)]
struct Side {
    machine: PeerConnection,
    /// When it wants to be called.
    due: Option<Instant>,
    /// What the machine wants, and what the netstack does: it follows the peer by itself.
    route: Route,
    path: Route,
    /// Where a packet came from although the path is the relay.
    seen: Option<SocketAddr>,
    reach: Reach,
    /// Counts its relay connections; what was sent on an earlier one is lost.
    relay: Option<u64>,
    subscribed: bool,
    address: SocketAddr,
    boot: u64,
    keys: Keys,
    talks_until: Instant,
    last_dial: Option<Instant>,
    last_renewal: Option<Instant>,
    unanswered_since: Option<Instant>,
    told_silent: bool,
    last_answer: Option<Instant>,
    last_served: Option<Instant>,
    words: (Instant, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrival: Instant,
    sequence: u64,
    to: usize,
    /// The life of the receiver that it is for, and its relay connection.
    boot: Option<u64>,
    relay: Option<u64>,
    message: Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Offer,
    Answer,
    GoIdle,
    Candidate(SocketAddr),
    Online,
    Offline,
    Probe { from: SocketAddr, to: SocketAddr },
    ProbeAnswer(SocketAddr),
    RelayReturns,
    Wire(Wire, Option<SocketAddr>),
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
        let mut world = Self {
            now,
            changes: 0,
            said: 0,
            weather: Weather::foul(&mut rng),
            sides: [
                Side::new(Role::Controller, 0, now),
                Side::new(Role::Follower, 0, now),
            ],
            talkers: 0,
            flying: BinaryHeap::new(),
            sequence: 0,
            sessions: 0,
            next_tick: now,
            rng,
        };
        for which in 0..2 {
            world.return_to_relay(which);
        }
        world
    }

    /// One thing goes wrong, or somebody does something.
    pub(super) fn disturb(&mut self, rng: &mut SmallRng) {
        let which = rng.random_range(0..2);
        match rng.random_range(0..10) {
            0 | 1 => self.weather = Weather::foul(rng),
            2 => self.leave_relay(which, rng.random_range(100..15_000)),
            3 => self.restart(which, rng.random_range(100..8000)),
            4 => self.send_signal(1 - which, Message::GoIdle),
            5 => self.move_house(which, rng.random_range(1..1000)),
            _ => {
                self.sides[which].talks_until = self.now + Duration::from_millis(rng.random_range(0..20_000));
            }
        }
    }

    /// The faults cease; the applications of some sides (1, 2 or both) talk from now on.
    pub(super) fn calm(&mut self, weather: Weather, talkers: u8) {
        self.weather = weather;
        self.talkers = talkers;
        for which in 0..2 {
            if self.sides[which].relay.is_none() {
                self.return_to_relay(which);
            }
        }
    }

    /// Whoever talks is connected by a way that leads to the other, and was answered lately; and whoever answers knows
    /// that it is connected, too.
    pub(super) fn is_met(&self) -> bool {
        let lately = |at: Instant| self.now - at < Duration::from_secs(2);
        (0..2).all(|which| {
            let (side, other) = (&self.sides[which], &self.sides[1 - which]);
            let talks = self.keeps_talking(which);
            if !talks && !side.last_served.is_some_and(lately) {
                return true;
            }
            let leads = match side.path {
                Route::Relay => true,
                Route::Direct(to) => self.weather.direct[which] && to == other.address,
                Route::None | Route::Parked => false,
            };
            let answered = !talks || side.last_answer.is_some_and(lately);
            let agrees = side.path == side.route && side.machine.route() == side.route;
            leads && answered && agrees && side.machine.is_connected() && side.reach == Reach::Possible
        })
    }

    /// One side's address changes, as behind a router that forgot.
    pub(super) fn move_house(&mut self, which: usize, port: u16) {
        self.sides[which].address = address(port);
    }

    /// Nothing grows.
    fn check_bounds(&self) {
        assert!(
            self.flying.len() <= MOST_FLYING,
            "{} under way",
            self.flying.len()
        );
        for side in &self.sides {
            assert!(side.machine.held() <= MOST_HELD, "{:?}", side.machine);
            assert!(side.keys.held() <= MOST_SESSIONS, "{:?}", side.keys);
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < MOST_STEPS, "timers without end: {self:#?}");
            let arrival = self.flying.peek().map(|Reverse(flying)| flying.arrival);
            let timers = self.sides.iter().filter_map(|side| side.due);
            let next = timers.chain(arrival).chain([self.next_tick]).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if let Some(Reverse(flying)) = self.flying.peek().copied()
                && flying.arrival <= self.now
            {
                self.flying.pop();
                self.arrive(flying);
            }
            for which in 0..2 {
                if self.sides[which].due.is_some_and(|due| due <= self.now) {
                    let mut rng = self.rng.clone();
                    self.change(which, |machine, now| machine.handle_timeout(now, &mut rng));
                    self.rng.next_u32();
                }
            }
            if self.next_tick <= self.now {
                self.check_bounds();
                self.next_tick = self.now + TICK;
                (0..2).for_each(|which| self.tick(which));
            }
        }
    }

    /// One input of a machine, and all it wants.
    fn change(&mut self, which: usize, change: impl FnOnce(&mut PeerConnection, Instant)) {
        change(&mut self.sides[which].machine, self.now);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.sides[which].machine.poll_output()).collect();
        assert!(outputs.len() <= MOST_OUTPUTS, "{outputs:?}");
        self.sides[which].due = self.sides[which].machine.poll_timeout();
        for output in outputs {
            self.perform(which, output);
        }
    }

    fn perform(&mut self, which: usize, output: Output) {
        let own = self.sides[which].address;
        match output {
            Output::Subscribe => self.subscribe(which),
            Output::Offer => self.say(which, Message::Offer),
            Output::Answer => self.say(which, Message::Answer),
            Output::Candidates => self.say(which, Message::Candidate(own)),
            Output::Probe(to) => self.send_directly(which, to, Message::Probe { from: own, to }),
            Output::Initiate => {
                self.said += 1;
                self.initiate(which);
            }
            Output::Route(route) => {
                self.changes += 1;
                let side = &mut self.sides[which];
                assert!(route != side.route || route != side.path, "told twice: {route:?}");
                (side.route, side.path, side.seen) = (route, route, None);
                side.unanswered_since = side.unanswered_since.map(|_| self.now);
            }
            Output::Reach(reach) => {
                self.changes += 1;
                self.sides[which].reach = reach;
            }
        }
    }

    /// Counts what a machine says.
    fn say(&mut self, which: usize, message: Message) {
        let (since, words) = &mut self.sides[which].words;
        if self.now - *since > Duration::from_secs(10) {
            (*since, *words) = (self.now, 0);
        }
        *words += 1;
        self.said += 1;
        assert!(*words < MOST_WORDS, "{words} words in ten seconds");
        self.send_signal(1 - which, message);
    }

    fn send_signal(&mut self, to: usize, message: Message) {
        let boot = Some(self.sides[to].boot);
        self.send(to, boot, None, message);
    }

    fn send_directly(&mut self, from: usize, to: SocketAddr, message: Message) {
        if self.weather.direct[from] && to == self.sides[1 - from].address {
            self.send(1 - from, Some(self.sides[1 - from].boot), None, message);
        }
    }

    /// Puts a message on its way; it may be lost, doubled or late.
    fn send(&mut self, to: usize, boot: Option<u64>, relay: Option<u64>, message: Message) {
        let copies = 1 + u32::from(self.rng.random_bool(self.weather.duplicate));
        for _ in 0..copies {
            if !self.rng.random_bool(self.weather.loss) {
                let late = self.rng.random_range(1..self.weather.latest);
                self.fly(to, late, boot, relay, message);
            }
        }
    }

    fn fly(&mut self, to: usize, late: u64, boot: Option<u64>, relay: Option<u64>, message: Message) {
        self.sequence += 1;
        self.flying.push(Reverse(Flying {
            arrival: self.now + Duration::from_millis(late),
            sequence: self.sequence,
            to,
            boot,
            relay,
            message,
        }));
    }

    fn arrive(&mut self, flying: Flying) {
        let side = &self.sides[flying.to];
        let is_late = flying.boot.is_some_and(|boot| boot != side.boot);
        if is_late || (flying.relay.is_some() && flying.relay != side.relay) {
            return;
        }
        let to = flying.to;
        match flying.message {
            Message::Offer => self.change(to, |machine, now| machine.handle_offer(now, Ice::Absent)),
            Message::Answer => self.change(to, |machine, now| machine.handle_answer(now, Ice::Absent)),
            Message::GoIdle => self.change(to, PeerConnection::handle_go_idle),
            Message::Candidate(at) => self.change(to, |machine, now| machine.handle_candidate(now, at)),
            Message::Online => self.change(to, PeerConnection::handle_online),
            Message::Offline => self.change(to, PeerConnection::handle_offline),
            Message::Probe { from, to: asked } => {
                self.send_directly(to, from, Message::ProbeAnswer(asked));
                self.change(to, |machine, now| machine.handle_candidate(now, from));
            }
            Message::ProbeAnswer(at) => self.change(to, |machine, now| machine.handle_probe_answer(now, at)),
            Message::RelayReturns => {
                if self.sides[to].relay.is_none() {
                    self.return_to_relay(to);
                }
            }
            Message::Wire(wire, from) => self.receive(to, wire, from),
        }
    }
}

impl Side {
    fn new(role: Role, boot: u64, now: Instant) -> Self {
        Self {
            machine: PeerConnection::new(role),
            due: None,
            route: Route::None,
            path: Route::None,
            seen: None,
            reach: Reach::Possible,
            relay: None,
            subscribed: false,
            address: address(if role == Role::Controller { 1 } else { 2 }),
            boot,
            keys: Keys::default(),
            talks_until: now,
            last_dial: None,
            last_renewal: None,
            unanswered_since: None,
            told_silent: false,
            last_answer: None,
            last_served: None,
            words: (now, 0),
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
