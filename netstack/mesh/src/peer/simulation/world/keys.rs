//! A WireGuard of a few lines: which sessions two peers share, and which of them packets use.
//!
//! It keeps what matters for agreement: several sessions live beside each other, the latest that the other side is
//! known to have is used, old initiations are refused, and a response must belong to one of the last two of ours.

use std::collections::VecDeque;

/// Sessions that live beside each other.
const MOST_SESSIONS: usize = 8;

/// One side's sessions, in the order in which they came to be.
#[derive(Debug, Default)]
pub(super) struct Keys {
    sessions: VecDeque<u64>,
    current: Option<u64>,
    /// Our last initiations that nobody responded to.
    initiated: [Option<u64>; 2],
    last_heard: u64,
    /// We responded, and wait for the first packet.
    pub(super) confirming: bool,
}

impl Keys {
    /// The session that packets use.
    pub(super) fn current(&self) -> Option<u64> {
        self.current
    }

    /// Sessions that are kept.
    pub(super) fn held(&self) -> usize {
        self.sessions.len()
    }

    /// We start a handshake; later ones have greater numbers.
    pub(super) fn initiate(&mut self, session: u64) {
        self.initiated = [Some(session), self.initiated[0]];
    }

    /// An initiation came: true when it is answered.
    pub(super) fn respond(&mut self, session: u64) -> bool {
        if session <= self.last_heard {
            return false;
        }
        self.last_heard = session;
        self.confirming = true;
        self.keep(session);
        true
    }

    /// A response came: true when it completes a handshake of ours.
    pub(super) fn complete(&mut self, session: u64) -> bool {
        let Some(ours) = self.initiated.iter_mut().find(|ours| **ours == Some(session)) else {
            return false;
        };
        *ours = None;
        self.confirming = false;
        self.keep(session);
        self.current = Some(session);
        true
    }

    /// A packet came: true when it can be read.
    pub(super) fn open(&mut self, session: u64) -> bool {
        let place = |session| self.sessions.iter().position(|kept| *kept == session);
        let Some(at) = place(session) else { return false };
        if self.current.and_then(place).is_none_or(|current| current < at) {
            self.current = Some(session);
        }
        true
    }

    fn keep(&mut self, session: u64) {
        self.sessions.push_back(session);
        if self.sessions.len() > MOST_SESSIONS {
            self.sessions.pop_front();
        }
    }
}
