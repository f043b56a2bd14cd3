//! The netstack's half, and the applications above it.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::super::{PeerConnection, Reach, Route};
use super::{Message, World};

/// Unanswered time after which WireGuard makes new keys, the pause between two tries, and the time after which the
/// peer counts as silent: those of the netstack.
const RENEW_AFTER: Duration = Duration::from_millis(750);
const RENEW_AGAIN: Duration = Duration::from_millis(1250);
const SILENT_AFTER: Duration = Duration::from_millis(3250);
/// Pause between two dials of an application that gets no answer.
const DIAL_AGAIN: Duration = Duration::from_secs(1);

/// A WireGuard message, with the number of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wire {
    Initiation(u64),
    Response(u64),
    /// An empty packet that confirms a handshake.
    Confirmation(u64),
    Data(u64),
    Reply(u64),
}

impl World {
    pub(super) fn keeps_talking(&self, which: usize) -> bool {
        self.talkers & (1 << which) != 0
    }

    pub(super) fn tick(&mut self, which: usize) {
        let now = self.now;
        let keeps = self.keeps_talking(which);
        let side = &mut self.sides[which];
        if !keeps && side.talks_until <= now {
            side.unanswered_since = None;
            return;
        }
        let answered = side.last_answer.is_some_and(|at| now - at < DIAL_AGAIN);
        let dials = side.last_dial.is_none_or(|at| now - at >= DIAL_AGAIN);
        if (!answered && dials) || side.path == Route::Parked {
            side.last_dial = Some(now);
            self.change(which, PeerConnection::handle_wake);
        }
        let side = &mut self.sides[which];
        if !matches!(side.path, Route::Relay | Route::Direct(_)) || side.reach == Reach::Gone {
            return;
        }
        let waited = now - *side.unanswered_since.get_or_insert(now);
        if waited >= SILENT_AFTER && !side.told_silent {
            side.told_silent = true;
            side.unanswered_since = None;
            return self.change(which, PeerConnection::handle_silent);
        }
        let rested = side.last_renewal.is_none_or(|at| now - at >= RENEW_AGAIN);
        let session = side.keys.current();
        if rested && (session.is_none() || waited >= RENEW_AFTER) {
            self.initiate(which);
        }
        if let Some(session) = session {
            self.transmit(which, Wire::Data(session));
        }
    }

    pub(super) fn initiate(&mut self, which: usize) {
        self.sessions += 1;
        let side = &mut self.sides[which];
        side.last_renewal = Some(self.now);
        side.keys.initiate(self.sessions);
        self.transmit(which, Wire::Initiation(self.sessions));
    }

    fn transmit(&mut self, from: usize, wire: Wire) {
        let own = self.sides[from].address;
        match self.sides[from].path {
            Route::Direct(to) => self.send_directly(from, to, Message::Wire(wire, Some(own))),
            Route::Relay => {
                let to = &self.sides[1 - from];
                let (boot, relay) = (Some(to.boot), to.relay);
                if self.sides[from].relay.is_some() && relay.is_some() {
                    self.send(1 - from, boot, relay, Message::Wire(wire, None));
                }
            }
            Route::None | Route::Parked => {}
        }
    }

    pub(super) fn receive(&mut self, which: usize, wire: Wire, from: Option<SocketAddr>) {
        let is_open = matches!(self.sides[which].route, Route::Relay | Route::Direct(_));
        if from.is_none() && !is_open {
            self.change(which, PeerConnection::handle_datagram);
        }
        let keys = &mut self.sides[which].keys;
        let is_authentic = match wire {
            Wire::Initiation(session) => keys.respond(session),
            Wire::Response(session) => keys.complete(session),
            Wire::Confirmation(session) | Wire::Data(session) | Wire::Reply(session) => keys.open(session),
        };
        if !is_authentic {
            return;
        }
        match wire {
            Wire::Initiation(session) => {
                self.hear(which, from);
                self.transmit(which, Wire::Response(session));
            }
            Wire::Response(session) => {
                self.change(which, PeerConnection::handle_handshake);
                self.hear(which, from);
                self.transmit(which, Wire::Confirmation(session));
            }
            Wire::Confirmation(_) | Wire::Data(_) | Wire::Reply(_) => {
                self.hear(which, from);
                if std::mem::take(&mut self.sides[which].keys.confirming) {
                    self.change(which, PeerConnection::handle_handshake);
                }
                self.serve(which, wire);
            }
        }
    }

    /// An authenticated packet: the netstack's path follows a peer that is not behind the relay.
    fn hear(&mut self, which: usize, from: Option<SocketAddr>) {
        let side = &mut self.sides[which];
        side.unanswered_since = None;
        side.told_silent = false;
        let Some(from) = from else { return };
        match side.path {
            Route::Direct(current) if current == from => {}
            Route::Direct(_) | Route::None => {
                side.path = Route::Direct(from);
                self.change(which, |machine, now| machine.handle_endpoint_changed(now, from));
            }
            Route::Relay | Route::Parked if side.seen == Some(from) => {}
            Route::Relay | Route::Parked => {
                side.seen = Some(from);
                self.change(which, |machine, now| machine.handle_candidate(now, from));
            }
        }
    }

    /// The application answers what it is asked.
    fn serve(&mut self, which: usize, wire: Wire) {
        match wire {
            Wire::Data(_) => {
                self.sides[which].last_served = Some(self.now);
                if let Some(session) = self.sides[which].keys.current() {
                    self.transmit(which, Wire::Reply(session));
                }
            }
            Wire::Reply(_) => self.sides[which].last_answer = Some(self.now),
            Wire::Initiation(_) | Wire::Response(_) | Wire::Confirmation(_) => {}
        }
    }
}
