//! How long to wait before the next stream.

use std::time::Duration;

use rand::Rng;

/// Before the first retry: a restarted server is back at once.
const FIRST: Duration = Duration::from_millis(100);
/// Before the second.
const INITIAL: Duration = Duration::from_millis(800);
/// How the wait grows, in tenths.
const FACTOR_TENTHS: u32 = 17;
/// Longest wait before jitter.
const MAX: Duration = Duration::from_secs(10);

/// Waits that grow from failure to failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The next wait: half to one and a half times the nominal one, never more than [`MAX`].
    pub(super) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let nominal = match self.last {
            None => FIRST,
            Some(last) if last < INITIAL => INITIAL,
            Some(last) => (last * FACTOR_TENTHS / 10).min(MAX),
        };
        self.last = Some(nominal);
        nominal.mul_f64(rng.random_range(0.5..1.5)).min(MAX)
    }

    /// Starts over after a stream that worked.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn waits_grow_to_ten_seconds_and_start_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();

        let waits: Vec<_> = (0..12).map(|_| backoff.next(&mut rng)).collect();

        assert!(waits[0] <= Duration::from_millis(150));
        assert!(waits[1] >= Duration::from_millis(400) && waits[1] <= Duration::from_millis(1200));
        assert!(waits[11] >= Duration::from_secs(5));
        assert!(waits.iter().all(|wait| *wait <= MAX));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(150));
    }
}
