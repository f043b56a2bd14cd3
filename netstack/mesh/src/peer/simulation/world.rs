//! The servers and the network between two peers, and a WireGuard of a few lines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::{Ice, Output, PeerConnection, Reach, Role, Route};

/// How often WireGuard and the applications act.
const TICK: Duration = Duration::from_millis(250);
/// Unanswered time after which WireGuard makes new keys, the pause between two tries, and the time after which the
/// peer counts as silent: those of the netstack.
const RENEW_AFTER: Duration = Duration::from_millis(750);
const RENEW_AGAIN: Duration = Duration::from_millis(1250);
const SILENT_AFTER: Duration = Duration::from_millis(3250);
/// Pause between two dials of an application that gets no answer.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
/// Words that a machine may want to say in ten seconds, and outputs of one input.
const MOST_WORDS: u32 = 60;
const MOST_OUTPUTS: usize = 16;
/// Steps of two minutes, many times over.
const MOST_STEPS: u32 = 100_000;

/// What happens to everything that is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    loss: f64,
    duplicate: f64,
    /// Longest way of a signal, in milliseconds.
    latest: u64,
    /// Datagrams get through without the relay.
    direct: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    /// Ways that were left for others, and verdicts that the peer is gone.
    pub(super) changes: u32,
    weather: Weather,
    sides: [Side; 2],
    /// Sides that the applications of keep talking.
    talkers: u8,
    flying: BinaryHeap<Reverse<Flying>>,
    sequence: u64,
    sessions: u64,
    next_tick: Instant,
    rng: StdRng,
}

#[derive(Debug)]
struct Side {
    machine: PeerConnection,
    route: Route,
    reach: Reach,
    /// Counts its relay connections; what was sent on an earlier one is lost.
    relay: Option<u64>,
    subscribed: bool,
    address: SocketAddr,
    boot: u64,
    session: Option<u64>,
    /// It responded, and waits for the first packet.
    offered: Option<u64>,
    talks_until: Instant,
    last_dial: Option<Instant>,
    last_renewal: Option<Instant>,
    unanswered_since: Option<Instant>,
    told_silent: bool,
    last_answer: Option<Instant>,
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

/// A WireGuard message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    Initiation(u64),
    Response(u64),
    Confirmation(u64),
    Data(u64),
    Reply(u64),
}

impl Weather {
    pub(super) fn fair(rng: &mut StdRng) -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            latest: 60,
            direct: rng.random(),
        }
    }

    fn foul(rng: &mut StdRng) -> Self {
        Self {
            loss: if rng.random_bool(0.1) {
                1.0
            } else {
                rng.random_range(0.0..0.5)
            },
            duplicate: rng.random_range(0.0..0.3),
            latest: rng.random_range(20..3000),
            direct: rng.random(),
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let mut world = Self {
            now,
            changes: 0,
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
    pub(super) fn disturb(&mut self, rng: &mut StdRng) {
        let which = rng.random_range(0..2);
        match rng.random_range(0..10) {
            0 | 1 => self.weather = Weather::foul(rng),
            2 => self.leave_relay(which, rng.random_range(100..15_000)),
            3 => self.restart(which, rng.random_range(100..8000)),
            4 => self.send_signal(1 - which, Message::GoIdle),
            5 => self.sides[which].address = address(rng.random_range(1..1000)),
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

    /// Whoever talks is connected by a way that leads to the other, and was answered lately. The other side need not
    /// have noticed: WireGuard answers along the way that packets came.
    pub(super) fn is_met(&self) -> bool {
        let mut talkers = (0..2).filter(|which| self.keeps_talking(*which));
        talkers.all(|which| {
            let (side, other) = (&self.sides[which], &self.sides[1 - which]);
            let leads = match side.route {
                Route::Relay => true,
                Route::Direct(to) => self.weather.direct && to == other.address,
                Route::None | Route::Parked => false,
            };
            let lately = |at: Instant| self.now - at < Duration::from_secs(2);
            let answered = side.last_answer.is_some_and(lately);
            leads && answered && side.machine.is_connected() && side.reach == Reach::Possible
        })
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < MOST_STEPS, "timers without end: {self:#?}");
            let arrival = self.flying.peek().map(|Reverse(flying)| flying.arrival);
            let timers = self.sides.iter().filter_map(|side| side.machine.poll_timeout());
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
                if self.sides[which]
                    .machine
                    .poll_timeout()
                    .is_some_and(|due| due <= self.now)
                {
                    let mut rng = StdRng::seed_from_u64(self.rng.random());
                    self.change(which, |machine, now| machine.handle_timeout(now, &mut rng));
                }
            }
            if self.next_tick <= self.now {
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
            Output::Initiate => self.initiate(which),
            Output::Route(route) => {
                self.changes += 1;
                self.sides[which].route = route;
                self.sides[which].unanswered_since = None;
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
        assert!(*words < MOST_WORDS, "{words} words in ten seconds");
        self.send_signal(1 - which, message);
    }

    fn send_signal(&mut self, to: usize, message: Message) {
        let boot = Some(self.sides[to].boot);
        self.send(to, boot, None, message);
    }

    fn send_directly(&mut self, from: usize, to: SocketAddr, message: Message) {
        if self.weather.direct && to == self.sides[1 - from].address {
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

/// The relay.
impl World {
    fn return_to_relay(&mut self, which: usize) {
        self.sequence += 1;
        self.sides[which].relay = Some(self.sequence);
        self.change(which, PeerConnection::handle_relay_up);
        if self.sides[1 - which].subscribed {
            self.tell(1 - which, Message::Online);
        }
    }

    fn leave_relay(&mut self, which: usize, millis: u64) {
        if self.sides[which].relay.take().is_none() {
            return;
        }
        self.sides[which].subscribed = false;
        self.change(which, PeerConnection::handle_relay_down);
        if self.sides[1 - which].subscribed {
            self.tell(1 - which, Message::Offline);
        }
        self.fly(which, millis, None, None, Message::RelayReturns);
    }

    fn subscribe(&mut self, which: usize) {
        if self.sides[which].relay.is_none() {
            return;
        }
        self.sides[which].subscribed = true;
        if self.sides[1 - which].relay.is_some() {
            self.tell(which, Message::Online);
        }
    }

    /// The relay's own words are neither lost nor reordered while the connection holds.
    fn tell(&mut self, which: usize, message: Message) {
        let relay = self.sides[which].relay;
        if relay.is_some() {
            self.fly(which, 20, None, relay, message);
        }
    }

    fn restart(&mut self, which: usize, millis: u64) {
        let boot = self.sides[which].boot + 1;
        self.leave_relay(which, millis);
        let role = if which == 0 {
            Role::Controller
        } else {
            Role::Follower
        };
        let relay = self.sides[which].relay;
        self.sides[which] = Side::new(role, boot, self.now);
        self.sides[which].relay = relay;
    }
}

/// WireGuard, and the applications above it.
impl World {
    fn keeps_talking(&self, which: usize) -> bool {
        self.talkers & (1 << which) != 0
    }

    fn tick(&mut self, which: usize) {
        let now = self.now;
        let keeps = self.keeps_talking(which);
        let side = &mut self.sides[which];
        if !keeps && side.talks_until <= now {
            side.unanswered_since = None;
            return;
        }
        let answered = side.last_answer.is_some_and(|at| now - at < DIAL_AGAIN);
        let dials = side.last_dial.is_none_or(|at| now - at >= DIAL_AGAIN);
        if (!answered && dials) || side.route == Route::Parked {
            side.last_dial = Some(now);
            self.change(which, PeerConnection::handle_wake);
        }
        let side = &mut self.sides[which];
        if !matches!(side.route, Route::Relay | Route::Direct(_)) || side.reach == Reach::Gone {
            return;
        }
        let waited = now - *side.unanswered_since.get_or_insert(now);
        if waited >= SILENT_AFTER && !side.told_silent {
            side.told_silent = true;
            side.unanswered_since = None;
            return self.change(which, PeerConnection::handle_silent);
        }
        let rested = side.last_renewal.is_none_or(|at| now - at >= RENEW_AGAIN);
        let session = side.session;
        if rested && (session.is_none() || waited >= RENEW_AFTER) {
            self.initiate(which);
        }
        if let Some(session) = session {
            self.transmit(which, Wire::Data(session), None);
        }
    }

    fn initiate(&mut self, which: usize) {
        self.sessions += 1;
        self.sides[which].last_renewal = Some(self.now);
        self.transmit(which, Wire::Initiation(self.sessions), None);
    }

    /// Sends along the route; without one straight back to where the packet before came from.
    fn transmit(&mut self, from: usize, wire: Wire, back: Option<SocketAddr>) {
        let own = self.sides[from].address;
        match (self.sides[from].route, back) {
            (Route::Direct(to), _) | (Route::None, Some(to)) => {
                self.send_directly(from, to, Message::Wire(wire, Some(own)));
            }
            (Route::Relay, _) => {
                let to = &self.sides[1 - from];
                let (boot, relay) = (Some(to.boot), to.relay);
                if self.sides[from].relay.is_some() && relay.is_some() {
                    self.send(1 - from, boot, relay, Message::Wire(wire, None));
                }
            }
            (Route::None | Route::Parked, _) => {}
        }
    }

    fn receive(&mut self, which: usize, wire: Wire, from: Option<SocketAddr>) {
        let carries = matches!(self.sides[which].route, Route::Relay | Route::Direct(_));
        if from.is_none() && !carries {
            self.change(which, PeerConnection::handle_datagram);
        }
        let side = &mut self.sides[which];
        match wire {
            Wire::Initiation(session) => {
                side.offered = Some(session);
                self.transmit(which, Wire::Response(session), from);
            }
            Wire::Response(session) => {
                side.session = Some(session);
                self.transmit(which, Wire::Confirmation(session), from);
                self.change(which, PeerConnection::handle_handshake);
            }
            Wire::Confirmation(session) | Wire::Data(session) if side.offered == Some(session) => {
                side.offered = None;
                side.session = Some(session);
                self.change(which, PeerConnection::handle_handshake);
            }
            Wire::Confirmation(session) | Wire::Data(session) | Wire::Reply(session)
                if side.session != Some(session) =>
            {
                return;
            }
            Wire::Confirmation(_) | Wire::Data(_) | Wire::Reply(_) => {}
        }
        let side = &mut self.sides[which];
        side.unanswered_since = None;
        side.told_silent = false;
        match wire {
            Wire::Data(session) => self.transmit(which, Wire::Reply(session), from),
            Wire::Reply(_) => side.last_answer = Some(self.now),
            Wire::Initiation(_) | Wire::Response(_) | Wire::Confirmation(_) => {}
        }
    }
}

impl Side {
    fn new(role: Role, boot: u64, now: Instant) -> Self {
        Self {
            machine: PeerConnection::new(role),
            route: Route::None,
            reach: Reach::Possible,
            relay: None,
            subscribed: false,
            address: address(if role == Role::Controller { 1 } else { 2 }),
            boot,
            session: None,
            offered: None,
            talks_until: now,
            last_dial: None,
            last_renewal: None,
            unanswered_since: None,
            told_silent: false,
            last_answer: None,
            words: (now, 0),
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
