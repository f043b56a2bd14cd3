//! Time inside TCP: microseconds since the stack began. Spans of time are microseconds too.

use std::time::{Duration, Instant};

/// Microseconds of a millisecond.
pub(super) const MILLISECOND: u64 = 1000;
/// Microseconds of a second.
pub(super) const SECOND: u64 = 1_000_000;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) fn new(epoch: Instant, now: Instant) -> Self {
        let passed = now.saturating_duration_since(epoch);
        Self(passed.as_secs() * SECOND + u64::from(passed.subsec_micros()))
    }

    pub(crate) fn instant(self, epoch: Instant) -> Instant {
        epoch + Duration::from_micros(self.0)
    }

    /// Microseconds since an earlier moment, 0 if it is a later one.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment so many microseconds later.
    pub(super) fn after(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}
