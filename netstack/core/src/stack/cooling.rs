//! Which connections have been quiet for so long that their buffers' memory can go back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Stack;
use crate::connection::ConnectionId;

/// Quiet time after which the memory of empty buffers is given back.
const COOL_AFTER: Duration = Duration::from_secs(2);
/// Connections looked at in one go; each costs a system call.
const COOL_AT_ONCE: usize = 64;

/// Connections whose buffers hold memory, about in the order in which to look at them.
#[derive(Debug, Default)]
pub(super) struct Cooling(VecDeque<(Instant, ConnectionId)>);

impl Cooling {
    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<ConnectionId> {
        let (_, id) = self.0.pop_front_if(|(at, _)| *at <= now)?;
        Some(id)
    }
}

impl Stack {
    /// Looks at the connection once it has been quiet; its buffers hold memory.
    pub(super) fn cool_later(&mut self, now: Instant, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && !entry.cooling
        {
            entry.cooling = true;
            self.cooling.0.push_back((now + COOL_AFTER, id));
        }
    }

    /// Gives back the memory of connections that have been quiet.
    pub(super) fn cool(&mut self, now: Instant) {
        for _ in 0..COOL_AT_ONCE {
            let Some(id) = self.cooling.pop_due(now) else {
                return;
            };
            let Some(entry) = self.connections.get_mut(&id) else {
                continue;
            };
            let quiet_at = entry.last_turn + COOL_AFTER;
            let again = if quiet_at > now {
                Some(quiet_at)
            } else if entry.connection.lock().tcp.cool() {
                None
            } else {
                Some(now + COOL_AFTER)
            };
            entry.cooling = again.is_some();
            if let Some(at) = again {
                self.cooling.0.push_back((at, id));
            }
        }
    }
}
