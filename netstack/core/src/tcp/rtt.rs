//! How long the other side takes to answer, and how long to wait for it (RFC 6298).

use super::time::{MILLISECOND, SECOND, Time};

/// Wait for the answer to a SYN.
pub(super) const INITIAL_TIMEOUT: u64 = SECOND;
/// The longest of all waits. RFC 6298 wants a minute; but nobody else's queue is spared by it, as the tunnel asks after
/// a silent peer more often, and a connection should go on soon after its path does.
const MAX_TIMEOUT: u64 = 10 * SECOND;
/// Wait when the handshake told nothing because its SYN was repeated.
const UNKNOWN_TIMEOUT: u64 = 250 * MILLISECOND;
/// The wait exceeds the round trip by this much, as others may delay their acknowledgements.
const MIN_VARIATION: u64 = 200 * MILLISECOND;
/// A minimum that is older than this may be of another path.
const MINIMUM_AGE: u64 = 30 * SECOND;

/// Round trips of one connection.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<u64>,
    variation: u64,
    minimum: Option<(u64, Time)>,
    /// Timeouts in a row.
    backoff: u32,
}

impl RoundTrip {
    /// An answer came so long after its question.
    pub(super) fn sample(&mut self, now: Time, took: u64) {
        let took = took.max(1);
        let smoothed = match self.smoothed {
            None => {
                self.variation = took / 2;
                took
            }
            Some(smoothed) => {
                self.variation = (3 * self.variation + smoothed.abs_diff(took)) / 4;
                (7 * smoothed + took) / 8
            }
        };
        self.smoothed = Some(smoothed.max(1));
        let is_minimum = |(least, since): (u64, Time)| took <= least || now.since(since) > MINIMUM_AGE;
        if self.minimum.is_none_or(is_minimum) {
            self.minimum = Some((took, now));
        }
    }

    pub(super) fn smoothed(&self) -> Option<u64> {
        self.smoothed
    }

    pub(super) fn minimum(&self) -> Option<u64> {
        self.minimum.map(|(least, _)| least)
    }

    /// How long to wait before what is under way counts as lost.
    pub(super) fn timeout(&self) -> u64 {
        let once = self.smoothed.map_or(UNKNOWN_TIMEOUT, |smoothed| {
            smoothed + (4 * self.variation).max(MIN_VARIATION)
        });
        backed_off(once, self.backoff)
    }

    pub(super) fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// Something arrived.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

/// Doubles a wait so many times.
pub(super) fn backed_off(once: u64, times: u32) -> u64 {
    once.saturating_mul(1 << times.min(16)).min(MAX_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_round_trip_and_what_others_may_add() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.timeout(), UNKNOWN_TIMEOUT);

        for _ in 0..50 {
            trip.sample(Time::default(), 20 * MILLISECOND);
        }
        let steady = trip.timeout();
        trip.sample(Time::default(), 500 * MILLISECOND);

        assert!((220..222).contains(&(steady / MILLISECOND)), "{steady}");
        assert!(trip.timeout() > 500 * MILLISECOND);
        assert_eq!(trip.minimum(), Some(20 * MILLISECOND));
    }

    #[test]
    fn backs_off_up_to_a_limit() {
        let mut trip = RoundTrip::default();
        let mut waits = vec![trip.timeout()];
        for _ in 0..100 {
            trip.back_off();
            waits.push(trip.timeout());
        }

        assert_eq!(waits[..3], [250_000, 500_000, 1_000_000]);
        assert_eq!(waits.last(), Some(&MAX_TIMEOUT));
        trip.reset_backoff();
        assert_eq!(trip.timeout(), waits[0]);
    }

    #[test]
    fn an_old_minimum_is_forgotten() {
        let mut trip = RoundTrip::default();
        let start = Time::default();
        trip.sample(start, MILLISECOND);
        trip.sample(start.after(SECOND), 50 * MILLISECOND);
        assert_eq!(trip.minimum(), Some(MILLISECOND));

        trip.sample(start.after(MINIMUM_AGE + SECOND), 50 * MILLISECOND);

        assert_eq!(trip.minimum(), Some(50 * MILLISECOND));
    }
}
