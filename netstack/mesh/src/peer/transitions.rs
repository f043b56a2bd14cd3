//! What follows from a change: expiry, the choice of the route, and who starts the handshake.

use std::time::{Duration, Instant};

use super::{CHECK_AFTER, Ice, Link, Output, PeerConnection, Presence, Reach, Role, Route, Wish};

/// The follower leaves the first handshake to the controller for so long.
const FOLLOWER_PATIENCE: Duration = Duration::from_secs(2);
/// Shortest pause between two handshakes that signals ask for.
const INITIATE_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two handshakes towards a frozen peer.
const SILENT_PAUSE_MAX: Duration = Duration::from_secs(30);

impl PeerConnection {
    /// An OFFER or ANSWER: the peer is alive and wants the connection.
    pub(super) fn invite(&mut self, now: Instant, ice: Ice) {
        self.wish = Wish::Open;
        match self.link {
            Link::Down => {
                self.link = Link::Trying(None);
                self.guard.follow(now);
            }
            Link::Silent { .. } => {
                self.link = Link::Trying(None);
                self.set_reach(Reach::Possible);
                if self.carries() {
                    self.initiate(now);
                }
            }
            Link::Trying(_) | Link::Established => {}
        }
        if ice == Ice::Absent {
            self.outputs.push_back(Output::Candidates);
        }
        self.settle(now);
    }

    /// The relay takes over; an OFFER starts a new search.
    pub(super) fn handle_direct_lost(&mut self, now: Instant) {
        self.settle(now);
        if self.carries() {
            self.initiate(now);
            self.offer();
        }
    }

    pub(super) fn expire_presence(&mut self, now: Instant) {
        let (Presence::Asked(until) | Presence::Leaving(until)) = self.presence else {
            return;
        };
        if until > now {
            return;
        }
        self.presence = Presence::Offline;
        self.seen = false;
        if self.direct.chosen().is_none() {
            self.give_up();
        }
    }

    /// The peer is gone: everybody fails, and the next dial starts from nothing.
    pub(super) fn give_up(&mut self) {
        self.wish = Wish::Closed;
        self.link = Link::Down;
        self.invited = false;
        self.own_move = None;
        self.guard.stop();
        self.direct.clear();
        self.set_reach(Reach::Gone);
    }

    pub(super) fn expire_link(&mut self, now: Instant) {
        match &mut self.link {
            Link::Trying(Some(until)) if *until <= now => {
                if self.presence == Presence::Online {
                    self.handle_silent(now);
                } else {
                    self.link = Link::Trying(None);
                }
            }
            Link::Silent { retry, pause } if *retry <= now => {
                *pause = (*pause * 2).min(SILENT_PAUSE_MAX);
                *retry = now + *pause;
                if self.carries() {
                    self.outputs.push_back(Output::Initiate);
                }
            }
            Link::Down | Link::Trying(_) | Link::Established | Link::Silent { .. } => {}
        }
    }

    /// Brings the route in line with everything else. A handshake that may get lost is repeated until it is made.
    pub(super) fn settle(&mut self, now: Instant) {
        self.settle_route(now);
        if matches!(self.link, Link::Trying(_)) && self.carries() {
            self.guard.follow(now);
        }
    }

    fn settle_route(&mut self, now: Instant) {
        if self.presence == Presence::Offline
            && self.direct.chosen().is_none()
            && self.reach == Reach::Possible
        {
            self.give_up();
        }
        let wanted = self.wanted_route();
        let waiting = self.presence == Presence::Online && self.wish == Wish::Open && wanted == Route::None;
        if waiting {
            self.own_move.get_or_insert(now + FOLLOWER_PATIENCE);
        }
        if wanted == self.route {
            return;
        }
        let before = std::mem::replace(&mut self.route, wanted);
        self.outputs.push_back(Output::Route(wanted));
        let opened = matches!(before, Route::None | Route::Parked);
        if !opened || !matches!(wanted, Route::Relay | Route::Direct(_)) {
            return;
        }
        if self.role == Role::Controller {
            self.last_initiation = Some(now);
            self.outputs.push_back(Output::Initiate);
        } else if self.link == Link::Established {
            self.own_move = Some(now + CHECK_AFTER);
        }
    }

    pub(super) fn wanted_route(&self) -> Route {
        match (self.wish, self.direct.chosen()) {
            (Wish::Open, Some(address)) => return Route::Direct(address),
            (Wish::Open, None) | (Wish::Parked | Wish::Closed, _) => {}
        }
        if self.presence != Presence::Online {
            return Route::None;
        }
        match self.wish {
            Wish::Parked => Route::Parked,
            Wish::Open if self.role == Role::Controller || self.invited => Route::Relay,
            Wish::Open | Wish::Closed => Route::None,
        }
    }

    /// An OFFER to a peer that is not at the relay would lead nowhere.
    pub(super) fn offer(&mut self) {
        if matches!(self.presence, Presence::Online | Presence::Asked(_)) {
            self.outputs.push_back(Output::Offer);
        }
    }

    pub(super) fn initiate(&mut self, now: Instant) {
        let rested = self
            .last_initiation
            .is_none_or(|last| now.saturating_duration_since(last) >= INITIATE_PAUSE);
        if rested {
            self.last_initiation = Some(now);
            self.outputs.push_back(Output::Initiate);
        }
    }

    pub(super) fn set_reach(&mut self, reach: Reach) {
        if self.reach != reach {
            self.reach = reach;
            self.outputs.push_back(Output::Reach(reach));
        }
    }
}
