//! Connection openings that a forgotten session may have swallowed.
//!
//! A peer that restarted cannot read what is sent to it in the session that it forgot, and TCP sends a lost SYN again
//! only after a second. So the openings that left since the peer was last heard are kept, and leave once more when a
//! handshake completes. A duplicate is harmless: the receiver knows its sequence number.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Openings kept; beyond this the oldest is left to TCP.
const MAX_KEPT: usize = 64;
/// An older opening was sent again by TCP, or its connection is over.
const FRESH: Duration = Duration::from_secs(3);

/// Inner packets that open connections and that the peer has not been heard since.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    kept: VecDeque<(Instant, Vec<u8>)>,
}

impl Pending {
    /// An opening left.
    pub(crate) fn keep(&mut self, now: Instant, packet: &[u8]) {
        self.kept.retain(|(_, other)| other != packet);
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((now, packet.to_vec()));
    }

    /// The peer was heard in the session that we send in: nothing is lost.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }

    /// What must leave again, oldest first.
    pub(crate) fn take(&mut self, now: Instant) -> impl Iterator<Item = Vec<u8>> + use<> {
        std::mem::take(&mut self.kept)
            .into_iter()
            .filter(move |(left, _)| now.saturating_duration_since(*left) < FRESH)
            .map(|(_, packet)| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_each_opening_once_and_not_for_long() {
        let start = Instant::now();
        let mut pending = Pending::default();
        pending.keep(start, b"old");
        pending.keep(start, b"again");
        pending.keep(start + FRESH / 2, b"again");

        assert_eq!(pending.take(start + FRESH).collect::<Vec<_>>(), [b"again"]);
        assert_eq!(pending.take(start).count(), 0);
    }

    #[test]
    fn is_bounded_and_forgets_the_oldest() {
        let now = Instant::now();
        let mut pending = Pending::default();

        for number in 0..=MAX_KEPT {
            pending.keep(now, &number.to_be_bytes());
        }

        let kept: Vec<_> = pending.take(now).collect();
        assert_eq!(kept.len(), MAX_KEPT);
        assert_eq!(kept[0], 1_usize.to_be_bytes());
    }

    #[test]
    fn a_sign_of_life_clears_it() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.keep(now, b"opening");

        pending.clear();

        assert_eq!(pending.take(now).count(), 0);
    }
}
