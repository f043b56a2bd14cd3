//! When to acknowledge: once for a batch, after two segments at the latest, and not at once if there may be an answer
//! to go with it.

use crate::tcp::time::{MILLISECOND, Time};

/// Wait for data of our own before an acknowledgement leaves by itself.
const DELAY: u64 = 10 * MILLISECOND;

/// How soon something is to be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) enum Urgency {
    /// With the next turn.
    Now,
    /// With data, or after a while.
    Later,
}

#[derive(Debug, Default)]
pub(super) struct Acknowledging {
    /// Bytes that were not acknowledged.
    owed: u64,
    now: bool,
    later: Option<Time>,
}

impl Acknowledging {
    /// Bytes arrived in order; so many are not left waiting.
    pub(super) fn count(&mut self, bytes: u64, most: u64) {
        self.owed += bytes;
        self.now |= self.owed >= most;
    }

    pub(super) fn want(&mut self, urgency: Urgency, now: Time) {
        match urgency {
            Urgency::Now => self.now = true,
            Urgency::Later => {
                self.later.get_or_insert_with(|| now.after(DELAY));
            }
        }
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.now || self.later.is_some_and(|at| at <= now)
    }

    pub(super) fn due_at(&self) -> Option<Time> {
        self.later
    }

    pub(super) fn handle_sent(&mut self) {
        *self = Self::default();
    }
}
