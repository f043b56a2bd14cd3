//! When to try again: OFFERs to a peer, and connections to a server. Pure; time and chance are arguments.

use std::time::{Duration, Instant};

use rand::{Rng, RngCore};

/// First pause after an OFFER that opens a connection.
const OPENING_PAUSE: Duration = Duration::from_secs(3);
/// First pause after something that worked was lost.
const LOSS_PAUSE: Duration = Duration::from_millis(800);
/// Pauses never grow beyond this plus [`LONGEST_SPREAD`].
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Spreads the peers of a mesh after a common outage.
const LONGEST_SPREAD: Duration = Duration::from_secs(15);

/// Says when an OFFER is due. It rests until started.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    due: Option<Instant>,
    pause: Duration,
}

impl Guard {
    /// Opens a connection: the caller sends an OFFER now; others are due after 3 s, 6 s, …
    pub(crate) fn start(&mut self, now: Instant) {
        self.plan(now, OPENING_PAUSE);
    }

    /// Repairs a connection: the caller sends an OFFER now; others are due after 0.8 s, 1.6 s, …
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.plan(now, LOSS_PAUSE);
    }

    /// The other side made the first move: ours follows only when that leads nowhere.
    pub(crate) fn follow(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some(now + LOSS_PAUSE);
            self.pause = OPENING_PAUSE;
        }
    }

    /// Rests.
    pub(crate) fn stop(&mut self) {
        self.due = None;
    }

    /// When [`Guard::poll`] has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// True when an OFFER is due; the next one is planned with that.
    pub(crate) fn poll(&mut self, now: Instant, rng: &mut dyn RngCore) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let pause = if self.pause >= LONGEST_PAUSE {
            LONGEST_PAUSE + LONGEST_SPREAD.mul_f64(rng.random_range(0.0..1.0))
        } else {
            self.pause
        };
        self.due = Some(now + pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }

    fn plan(&mut self, now: Instant, pause: Duration) {
        self.due = Some(now + pause);
        self.pause = pause * 2;
    }
}

/// Shortest pause between two tries to reach a server.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest pause between two tries to reach a server.
const LONGEST: Duration = Duration::from_secs(10);
/// A connection that held this long was a good one.
const STEADY: Duration = Duration::from_secs(5);

/// Pauses between tries to reach a server: a quarter of the outage so far, between 0.1 and 10 s.
///
/// So after an outage the way back takes at most a quarter of it longer, and a server that accepts and
/// drops at once is not hammered.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failing_since: Option<Instant>,
    up_since: Option<Instant>,
}

impl Backoff {
    /// The connection is made.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// The connection, or a try to make it, failed: how long to wait.
    pub(crate) fn failed(&mut self, now: Instant, rng: &mut dyn RngCore) -> Duration {
        if let Some(up) = self.up_since.take()
            && now.saturating_duration_since(up) >= STEADY
        {
            self.failing_since = None;
        }
        let since = *self.failing_since.get_or_insert(now);
        let pause = (now.saturating_duration_since(since) / 4).clamp(SHORTEST, LONGEST);
        pause.mul_f64(rng.random_range(0.75..1.25))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn opening_doubles_from_three_seconds_to_a_spread_cap() {
        let start = Instant::now();
        let mut guard = Guard::default();
        let mut rng = StdRng::seed_from_u64(1);
        guard.start(start);

        let times: Vec<_> = (0..6)
            .map(|_| {
                let due = guard.deadline().unwrap();
                assert!(guard.poll(due, &mut rng));
                (due - start).as_secs_f64()
            })
            .collect();

        assert_eq!(times[..4], [3.0, 9.0, 21.0, 45.0]);
        assert!((75.0..90.0).contains(&times[4]), "{times:?}");
        assert!((105.0..135.0).contains(&times[5]), "{times:?}");
    }

    #[test]
    fn a_loss_is_repaired_faster() {
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut guard = Guard::default();
        guard.hurry(start);

        assert!(!guard.poll(start + Duration::from_millis(799), &mut rng));
        assert!(guard.poll(start + Duration::from_millis(800), &mut rng));
        assert_eq!(guard.deadline(), Some(start + Duration::from_millis(2400)));
    }

    #[test]
    fn a_short_outage_is_over_soon_after_its_end() {
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut now = start;

        while now < start + Duration::from_secs(4) {
            now += backoff.failed(now, &mut rng);
        }

        assert!(now < start + Duration::from_millis(5300), "{:?}", now - start);
    }

    #[test]
    fn a_server_that_drops_at_once_is_not_hammered() {
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut now = start;
        let mut tries = 0;

        while now < start + Duration::from_mins(2) {
            backoff.connected(now);
            now += backoff.failed(now, &mut rng);
            tries += 1;
        }

        assert!(tries < 40, "{tries}");
    }

    proptest! {
        #[test]
        fn pauses_stay_between_their_limits(gaps in proptest::collection::vec(0u64..100_000, 1..50), seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::default();
            let mut now = Instant::now();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if gap % 3 == 0 {
                    backoff.connected(now);
                }
                let pause = backoff.failed(now, &mut rng);
                prop_assert!(pause >= SHORTEST.mul_f64(0.75) && pause <= LONGEST.mul_f64(1.25));
            }
        }
    }
}
