//! One remote peer's connection. Pure: `handle_*` puts in, `poll_*` takes out.
//!
//! After one `handle_*` call, drain [`PeerConnection::poll_output`] until it is empty, then arm a timer for
//! [`PeerConnection::poll_timeout`]. The machine decides when to OFFER, how packets reach the peer, when to
//! start a handshake, and when the peer counts as gone, so that dials and streams fail instead of waiting.
//!
//! Two losses differ. When *our* relay connection drops, nothing is known about the peer: everything waits.
//! When the relay says that *the peer* left, it has a moment to come back; then it is gone.

mod transitions;
mod vocabulary;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngCore;

pub(crate) use self::vocabulary::{Ice, Output, Reach, Role, Route};
use crate::direct::{Adoption, DirectPath};
use crate::guard::Guard;

/// A peer that left the relay may come back this soon without its streams failing.
const GRACE: Duration = Duration::from_secs(1);
/// The relay answers at once about peers that are there; later silence means absence.
const ASK_PATIENCE: Duration = Duration::from_secs(1);
/// The same after the relay itself was away: the peer has to find it again too.
const RETURN_PATIENCE: Duration = Duration::from_secs(6);
/// The follower checks a session that it kept through an outage after so long.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// A peer that is online answers within this, or counts as frozen.
const ANSWER_PATIENCE: Duration = Duration::from_millis(5500);
/// First pause between two handshakes towards a frozen peer; doubles.
const SILENT_PAUSE: Duration = Duration::from_secs(1);

/// What the relay says about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// We have no relay.
    Unknown,
    /// Asked; no answer by then means absent.
    Asked(Instant),
    Online,
    /// It left; gone for good at that time.
    Leaving(Instant),
    Offline,
}

/// Whether anybody wants the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Closed,
    Open,
    Parked,
}

/// What WireGuard says about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// No session yet; the peer counts as frozen at that time.
    Trying(Option<Instant>),
    Established,
    Silent {
        retry: Instant,
        pause: Duration,
    },
}

/// One remote peer's connection.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    role: Role,
    presence: Presence,
    /// It was online when we last had word of it.
    seen: bool,
    wish: Wish,
    link: Link,
    guard: Guard,
    direct: DirectPath,
    /// The follower may use the relay.
    invited: bool,
    /// When the follower acts by itself.
    own_move: Option<Instant>,
    last_initiation: Option<Instant>,
    route: Route,
    reach: Reach,
    outputs: VecDeque<Output>,
}

impl PeerConnection {
    /// A connection that nobody wants yet.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            presence: Presence::Unknown,
            seen: false,
            wish: Wish::Closed,
            link: Link::Down,
            guard: Guard::default(),
            direct: DirectPath::default(),
            invited: false,
            own_move: None,
            last_initiation: None,
            route: Route::None,
            reach: Reach::Possible,
            outputs: VecDeque::new(),
        }
    }

    /// How packets reach the peer now.
    pub(crate) fn route(&self) -> Route {
        self.route
    }

    /// True while a handshake is in force and nothing says that the peer left.
    pub(crate) fn is_connected(&self) -> bool {
        self.link == Link::Established && self.carries()
    }

    /// Packets really leave.
    fn carries(&self) -> bool {
        matches!(self.route, Route::Relay | Route::Direct(_))
    }

    /// Our relay connection is up.
    pub(crate) fn handle_relay_up(&mut self, now: Instant) {
        let patience = if self.seen { RETURN_PATIENCE } else { ASK_PATIENCE };
        self.presence = Presence::Asked(now + patience);
        self.outputs.push_back(Output::Subscribe);
        self.settle(now);
    }

    /// Our relay connection is down: nothing is known, so everything waits.
    pub(crate) fn handle_relay_down(&mut self, now: Instant) {
        self.presence = Presence::Unknown;
        self.guard.stop();
        if !matches!(self.link, Link::Silent { .. }) {
            self.set_reach(Reach::Possible);
        }
        if let Link::Trying(answer_by) = &mut self.link {
            *answer_by = None;
        }
        self.settle(now);
    }

    /// The relay says that the peer is there.
    pub(crate) fn handle_online(&mut self, now: Instant) {
        let returned = matches!(self.presence, Presence::Leaving(_));
        let fresh = self.presence != Presence::Online;
        self.presence = Presence::Online;
        self.seen = true;
        if !matches!(self.link, Link::Silent { .. }) {
            self.set_reach(Reach::Possible);
        }
        if returned {
            self.direct.clear();
        }
        let rekey = returned && self.link == Link::Established;
        if rekey {
            self.link = Link::Trying(Some(now + ANSWER_PATIENCE));
            self.invited = true;
            self.own_move = Some(now + CHECK_AFTER);
            self.last_initiation = None;
        }
        if fresh && let Link::Silent { retry, pause } = &mut self.link {
            (*retry, *pause) = (now, SILENT_PAUSE);
        }
        let reopens = fresh && self.wish == Wish::Open && self.direct.chosen().is_none();
        if reopens && let Link::Trying(answer_by) = &mut self.link {
            answer_by.get_or_insert(now + ANSWER_PATIENCE);
        }
        self.settle(now);
        if rekey && self.carries() {
            self.initiate(now);
        }
        if reopens {
            self.guard.hurry(now);
            self.offer();
        }
    }

    /// The relay says that the peer left.
    pub(crate) fn handle_offline(&mut self, now: Instant) {
        if self.presence == Presence::Unknown {
            return;
        }
        self.outputs.push_back(Output::Subscribe);
        if !matches!(self.presence, Presence::Leaving(_) | Presence::Offline) {
            self.presence = Presence::Leaving(now + GRACE);
        }
        self.guard.stop();
        self.direct.doubt(now);
        self.settle(now);
    }

    /// Somebody dials.
    pub(crate) fn handle_wake(&mut self, now: Instant) {
        if self.presence == Presence::Offline && self.direct.chosen().is_none() {
            return;
        }
        let opened = self.wish != Wish::Open;
        self.wish = Wish::Open;
        let answer_by = (self.presence == Presence::Online).then(|| now + ANSWER_PATIENCE);
        match &mut self.link {
            Link::Down => self.link = Link::Trying(answer_by),
            Link::Trying(until) => *until = until.or(answer_by),
            Link::Silent { retry, .. } => *retry = (*retry).min(now + SILENT_PAUSE),
            Link::Established => {}
        }
        self.settle(now);
        if opened && self.link != Link::Established {
            self.guard.start(now);
            self.offer();
        }
    }

    /// An OFFER came.
    pub(crate) fn handle_offer(&mut self, now: Instant, ice: Ice) {
        self.outputs.push_back(Output::Answer);
        self.invite(now, ice);
        if self.role == Role::Controller && self.carries() {
            self.initiate(now);
        }
    }

    /// An ANSWER came.
    pub(crate) fn handle_answer(&mut self, now: Instant, ice: Ice) {
        self.invite(now, ice);
    }

    /// The peer parked the connection.
    pub(crate) fn handle_go_idle(&mut self, now: Instant) {
        if self.wish == Wish::Closed {
            return;
        }
        self.wish = Wish::Parked;
        self.link = Link::Down;
        self.invited = false;
        self.guard.stop();
        self.direct.clear();
        self.settle(now);
    }

    /// The peer named one of its addresses.
    pub(crate) fn handle_candidate(&mut self, now: Instant, address: SocketAddr) {
        self.direct.handle_candidate(now, address);
        self.settle(now);
    }

    /// The peer answered a probe to this address.
    pub(crate) fn handle_probe_answer(&mut self, now: Instant, address: SocketAddr) {
        self.direct.handle_answer(now, address);
        self.settle(now);
    }

    /// Packets that only the peer can make came straight from this address, and the netstack answers there: whatever
    /// was thought of the peer, it is alive and talks to us.
    pub(crate) fn handle_endpoint_changed(&mut self, now: Instant, address: SocketAddr) {
        if self.direct.adopt(now, address) == Adoption::Refused {
            self.outputs.push_back(Output::Route(self.route));
            return;
        }
        self.wish = Wish::Open;
        self.set_reach(Reach::Possible);
        let has_keys = self.link == Link::Established;
        if !has_keys {
            self.link = Link::Trying(None);
        }
        self.settle(now);
        if !has_keys && self.role == Role::Follower {
            self.own_move.get_or_insert(now + CHECK_AFTER);
        }
    }

    /// A datagram of the peer came through the relay although no path is open.
    pub(crate) fn handle_datagram(&mut self, now: Instant) {
        if self.presence == Presence::Unknown {
            return;
        }
        self.presence = Presence::Online;
        self.seen = true;
        if !matches!(self.link, Link::Silent { .. }) {
            self.set_reach(Reach::Possible);
        }
        self.wish = Wish::Open;
        self.invited = true;
        if self.link == Link::Down {
            self.link = Link::Trying(None);
            self.guard.follow(now);
        }
        self.settle(now);
    }

    /// A handshake completed.
    pub(crate) fn handle_handshake(&mut self, now: Instant) {
        let is_late = self.presence == Presence::Offline && self.direct.chosen().is_none();
        if is_late || self.wish == Wish::Parked {
            return;
        }
        self.link = Link::Established;
        self.invited = true;
        self.own_move = None;
        self.guard.stop();
        if self.wish == Wish::Closed {
            self.wish = Wish::Open;
        }
        self.set_reach(Reach::Possible);
        self.settle(now);
    }

    /// WireGuard says that the peer does not answer any more.
    pub(crate) fn handle_silent(&mut self, now: Instant) {
        if matches!(self.link, Link::Silent { .. } | Link::Down) {
            return;
        }
        self.link = Link::Silent {
            retry: now + SILENT_PAUSE,
            pause: SILENT_PAUSE,
        };
        self.direct.clear();
        self.set_reach(Reach::Gone);
        self.settle(now);
        if self.presence == Presence::Online && self.wish == Wish::Open {
            self.guard.hurry(now);
            self.offer();
        }
    }

    /// Some time passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rng: &mut dyn RngCore) {
        let direct = self.direct.chosen();
        self.direct.handle_timeout(now);
        if direct.is_some() && self.direct.chosen().is_none() {
            self.handle_direct_lost(now);
        }
        self.expire_presence(now);
        self.expire_link(now);
        self.settle(now);
        if self.own_move.is_some_and(|at| at <= now) {
            self.own_move = None;
            self.invited = true;
            self.settle(now);
            if self.carries() {
                self.initiate(now);
            }
        }
        while let Some(address) = self.direct.poll_probe(now) {
            self.outputs.push_back(Output::Probe(address));
        }
        if self.guard.poll(now, rng) {
            self.offer();
            if self.carries() {
                self.initiate(now);
            }
        }
    }

    /// When [`PeerConnection::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let presence = match self.presence {
            Presence::Asked(until) | Presence::Leaving(until) => Some(until),
            Presence::Unknown | Presence::Online | Presence::Offline => None,
        };
        let link = match self.link {
            Link::Trying(until) => until,
            Link::Silent { retry, .. } => self.carries().then_some(retry),
            Link::Down | Link::Established => None,
        };
        let others = [self.guard.deadline(), self.direct.deadline(), self.own_move];
        others.into_iter().chain([presence, link]).flatten().min()
    }

    /// Things that are kept.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.direct.held() + self.outputs.len()
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
