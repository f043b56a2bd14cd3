//! The driver's turn: what connections send, when they want the next turn, and how they end.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::Link;
use super::{Stack, Stage};
use crate::Failure;
use crate::batch::TxBatch;
use crate::connection::{ConnectionId, State, Stream};
use crate::device::Device;
use crate::device::peer::Peer;
use crate::tcp::Phase;

/// Connections that are established and that nobody took yet.
const MAX_BACKLOG: usize = 1024;
/// How long a connection may take to end after its owner dropped it and everything arrived.
const LINGER_TIME: Duration = Duration::from_mins(1);
/// How long nothing may arrive of what a dropped owner left.
const STALL_TIME: Duration = Duration::from_mins(2);
/// Shortest time between two turns that a timer asks for.
const TIMER_GRANULARITY: Duration = Duration::from_millis(1);

/// What a connection just did, which tells why it may have closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Received,
    Sent,
}

impl Stack {
    /// Gives a turn to every connection that wants one; `false` when the batch is full before that.
    pub(crate) fn poll_transmit(&mut self, now: Instant, device: &mut Device, batch: &mut TxBatch) -> bool {
        let mut marked = std::mem::take(&mut self.marked);
        self.kick.take_marked(&mut marked);
        for id in marked.drain(..) {
            self.mark(id);
        }
        self.marked = marked;
        while batch.has_egress_room() {
            let Some(id) = self.dirty.pop_front() else {
                return true;
            };
            let peer = self
                .connections
                .get(&id)
                .and_then(|entry| device.peer_mut(entry.peer));
            self.turn(now, id, peer, batch);
        }
        self.dirty.is_empty()
    }

    /// Marks the connections whose timers are due, and fails those whose deadline passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.cool(now);
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(entry) = self
                .connections
                .get_mut(&id)
                .filter(|entry| entry.scheduled == Some(at))
            else {
                continue;
            };
            entry.scheduled = None;
            if entry.deadline.is_some_and(|deadline| deadline <= now) {
                entry.connection.lock().fail(Failure::TimedOut);
            }
            self.mark(id);
        }
    }

    /// When [`Stack::handle_timeout`] wants to run.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        [timer, self.cooling.next()].into_iter().flatten().min()
    }

    /// Lets a connection send and schedules its next turn.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: Option<&mut Peer>,
        batch: &mut TxBatch,
    ) {
        let Some(entry) = self.connections.get_mut(&id) else {
            return;
        };
        entry.dirty = false;
        entry.received = 0;
        entry.last_turn = now;
        let connection = Arc::clone(&entry.connection);
        connection.unmark();
        let mut state = connection.lock();
        if state.released && state.tcp.unread() > 0 {
            state.reset();
        }
        let mut sends = false;
        if let Some(peer) = peer.filter(|peer| peer.can_transmit()) {
            let mut link = Link {
                now,
                peer,
                batch,
                scratch: &mut self.scratch,
            };
            state.tcp.transmit(self.epoch, now, &mut link);
            sends = true;
        } else {
            state.tcp.hold(self.epoch, now);
        }
        self.observe(id, &mut state, Cause::Sent);
        let full = sends && !batch.has_egress_room();
        let wants = if sends && !full {
            state.tcp.poll_at(self.epoch)
        } else {
            None
        };
        let phase = state.tcp.phase();
        // Its last acknowledgement left; whoever missed it is answered without a connection.
        let rests = phase == Phase::TimeWait && sends && !full;
        if phase == Phase::Closed || rests {
            // A batch that is full may have kept the reset from leaving; then it has to wait.
            if !(full && phase == Phase::Closed) {
                drop(state);
                self.remove(now, id);
                return;
            }
        }
        let left = state.released.then(|| state.tcp.left());
        let warm = state.tcp.is_warm();
        drop(state);
        if warm {
            self.cool_later(now, id);
        }
        if full {
            self.mark(id);
        }
        self.schedule(now, id, wants, left);
    }

    /// `left` is what has not arrived when its owner is gone; the end waits for as long as that becomes less.
    fn schedule(&mut self, now: Instant, id: ConnectionId, wants: Option<Instant>, left: Option<usize>) {
        let Some(entry) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(left) = left
            && entry.lingering.is_none_or(|before| left < before)
        {
            let patience = if left == 0 { LINGER_TIME } else { STALL_TIME };
            entry.lingering = Some(left);
            entry.deadline = Some(now + patience);
        }
        let wants = wants.map(|at| at.max(now + TIMER_GRANULARITY));
        let next = [wants, entry.deadline].into_iter().flatten().min();
        if let Some(at) = next
            && entry.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            entry.scheduled = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Notices what changed: established, finished by the other side, or broken.
    pub(super) fn observe(&mut self, id: ConnectionId, state: &mut State, cause: Cause) {
        let Some(entry) = self.connections.get_mut(&id) else {
            return;
        };
        entry.remote_finished |= state.tcp.remote_finished();
        let phase = state.tcp.phase();
        if phase == Phase::Closed {
            let failure = match (entry.stage, cause) {
                (Stage::Established, _) if entry.remote_finished => return,
                (Stage::Dialing, Cause::Received) => Failure::Refused,
                (_, Cause::Received) => Failure::Reset,
                (_, Cause::Sent) => Failure::TimedOut,
            };
            state.failure.get_or_insert(failure);
            return;
        }
        if phase == Phase::Opening || entry.stage == Stage::Established {
            return;
        }
        let stage = std::mem::replace(&mut entry.stage, Stage::Established);
        entry.deadline = None;
        let (peer, connection) = (entry.peer, Arc::clone(&entry.connection));
        if let Stage::HalfOpen(listener) = stage {
            self.close_half_open(peer);
            if self.backlog.len() < MAX_BACKLOG {
                self.backlog.push_back((listener, Stream::new(connection)));
            } else {
                self.refused += 1;
                state.released = true;
                state.fail(Failure::Aborted);
            }
        }
    }
}
