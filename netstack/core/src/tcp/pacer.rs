//! When the next bytes may leave, so that a window does not leave at once.
//!
//! Permission collects at the pace and is spent by what leaves. The driver's timers are a millisecond wide, so what
//! one turn may send is what collects in some of them; on a path whose round trip is as short as that, the window
//! alone decides.

use super::time::{MILLISECOND, SECOND, Time};

/// Permission that collects while nobody sends.
const MOST_TIME: u64 = 4 * MILLISECOND;
/// It is worth to wait for so much.
const QUANTUM_TIME: u64 = MILLISECOND;
const MAX_QUANTUM: u64 = 64 << 10;
/// Segments that may leave at once whatever the pace is: as many as a new connection may send.
const BURST_SEGMENTS: u64 = 10;

/// Bytes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(pub(super) u64);

impl Rate {
    /// So many bytes in so many microseconds.
    pub(super) fn new(bytes: u64, micros: u64) -> Self {
        Self(bytes.saturating_mul(SECOND) / micros.max(1))
    }

    /// Bytes in so many microseconds.
    pub(super) fn bytes(self, micros: u64) -> u64 {
        self.0.saturating_mul(micros) / SECOND
    }

    /// Microseconds that so many bytes take.
    fn micros(self, bytes: u64) -> u64 {
        bytes.saturating_mul(SECOND).div_ceil(self.0.max(1))
    }
}

/// Permission to send.
#[derive(Debug)]
pub(super) struct Pacer {
    rate: Option<Rate>,
    segment: u64,
    permitted: i64,
    updated: Time,
    open: bool,
}

impl Pacer {
    pub(super) fn new(segment: u64) -> Self {
        Self {
            rate: None,
            segment,
            permitted: 0,
            updated: Time::default(),
            open: true,
        }
    }

    /// Sets the pace; `None` while nothing is known of the path.
    pub(super) fn set(&mut self, now: Time, rate: Option<Rate>) {
        self.collect(now);
        self.rate = rate;
    }

    /// Whether something may leave.
    pub(super) fn permits(&mut self, now: Time) -> bool {
        self.collect(now);
        let Some(rate) = self.rate else { return true };
        if self.permitted <= 0 {
            self.open = false;
        } else if self.permitted >= self.quantum(rate).cast_signed() {
            self.open = true;
        }
        self.open
    }

    /// When something may leave, after [`Pacer::permits`] said no.
    pub(super) fn permits_at(&self) -> Option<Time> {
        let rate = self.rate?;
        let missing = self.quantum(rate).cast_signed() - self.permitted;
        let wait = rate.micros(u64::try_from(missing).unwrap_or(0));
        (!self.open).then(|| self.updated.after(wait))
    }

    /// So many bytes left.
    pub(super) fn spend(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.permitted = self.permitted.saturating_sub_unsigned(bytes);
        }
    }

    fn quantum(&self, rate: Rate) -> u64 {
        rate.bytes(QUANTUM_TIME).clamp(self.segment, MAX_QUANTUM)
    }

    fn collect(&mut self, now: Time) {
        let Some(rate) = self.rate else {
            self.permitted = (BURST_SEGMENTS * self.segment).cast_signed();
            self.updated = now;
            return;
        };
        let most = rate.bytes(MOST_TIME).max(BURST_SEGMENTS * self.segment);
        let gained = rate.bytes(now.since(self.updated)).min(most);
        // What a slow pace collects in an instant is less than a byte.
        if gained > 0 {
            self.permitted = (self.permitted + gained.cast_signed()).min(most.cast_signed());
            self.updated = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1240;

    #[test]
    fn keeps_the_pace_although_turns_come_late() {
        for rate in [20_000, 1_000_000, 100_000_000] {
            let mut pacer = Pacer::new(SEGMENT);
            let mut now = Time::default().after(SECOND);
            pacer.set(now, Some(Rate(rate)));
            let (begun, mut sent) = (now, 0);
            while now.since(begun) < 10 * SECOND {
                while pacer.permits(now) {
                    pacer.spend(SEGMENT);
                    sent += SEGMENT;
                }
                let at = pacer.permits_at().unwrap();
                assert!(at > now);
                // A timer is a millisecond wide.
                now = at.after(MILLISECOND);
            }

            let share = sent * 100 / (rate * 10);
            assert!((85..=120).contains(&share), "{rate}: {share} %");
        }
    }

    #[test]
    fn a_pace_of_less_than_a_segment_in_a_second_is_kept() {
        let mut pacer = Pacer::new(SEGMENT);
        let now = Time::default().after(SECOND);
        pacer.set(now, Some(Rate(100)));
        while pacer.permits(now) {
            pacer.spend(SEGMENT);
        }

        let at = pacer.permits_at().unwrap();

        assert_eq!(at, now.after(SEGMENT * SECOND / 100));
        assert!(pacer.permits(at));
    }

    #[test]
    fn a_burst_is_as_long_as_a_few_timers() {
        let mut pacer = Pacer::new(SEGMENT);
        let now = Time::default().after(SECOND);
        pacer.set(now, Some(Rate(100_000_000)));

        let mut sent = 0;
        let later = now.after(10 * SECOND);
        while pacer.permits(later) {
            pacer.spend(SEGMENT);
            sent += SEGMENT;
        }

        assert!((400_000..402_000).contains(&sent), "{sent}");
    }

    #[test]
    fn an_unknown_path_holds_nothing_back() {
        let mut pacer = Pacer::new(SEGMENT);
        for _ in 0..100 {
            assert!(pacer.permits(Time::default()));
            pacer.spend(SEGMENT);
        }
        assert_eq!(pacer.permits_at(), None);
    }
}
