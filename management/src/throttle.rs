//! Token buckets by key, in bounded memory (generic cell rate algorithm).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use meshgate_proto::UnixTime;

/// What counts as one source: an IPv4 address, an IPv6 /56 (what an access provider gives one customer).
pub(crate) fn source_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 72))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How fast tries may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Tries at once after a quiet time.
    pub burst: u32,
    /// Time after which one more try is allowed.
    pub refill: Duration,
}

/// Counts tries by key.
///
/// Each key costs one time stamp: the moment at which its bucket is full again. Keys whose bucket is full are
/// forgotten. When `capacity` keys are busy, all further ones share one bucket, so that memory stays bounded
/// and nobody passes uncounted.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    rate: Rate,
    capacity: usize,
    full_at: HashMap<K, UnixTime>,
    others_full_at: UnixTime,
    next_sweep: UnixTime,
}

impl<K: Eq + Hash> Throttle<K> {
    pub(crate) fn new(rate: Rate, capacity: usize) -> Self {
        Self {
            rate,
            capacity,
            full_at: HashMap::new(),
            others_full_at: UnixTime::EPOCH,
            next_sweep: UnixTime::EPOCH,
        }
    }

    /// Takes one try from the key's bucket.
    ///
    /// # Errors
    /// How long to wait when the bucket is empty; nothing is taken then.
    pub(crate) fn take(&mut self, key: K, now: UnixTime) -> Result<(), Duration> {
        self.make_room(&key, now);
        let room = self.full_at.len() < self.capacity;
        let slot = match self.full_at.get_mut(&key) {
            Some(slot) => slot,
            None if room => self.full_at.entry(key).or_insert(UnixTime::EPOCH),
            None => &mut self.others_full_at,
        };
        let full_at = (*slot).max(now);
        let used = full_at.since(now);
        let allowed = self.rate.refill * self.rate.burst.saturating_sub(1);
        if used > allowed {
            return Err(used.saturating_sub(allowed));
        }
        *slot = full_at.saturating_add(self.rate.refill);
        Ok(())
    }

    /// Puts one try back, for one that turned out to be no offence.
    pub(crate) fn give_back(&mut self, key: &K) {
        if let Some(slot) = self.full_at.get_mut(key) {
            *slot = slot.saturating_sub(self.rate.refill);
        }
    }

    /// True when nothing is missing from the key's bucket.
    pub(crate) fn is_untouched(&self, key: &K, now: UnixTime) -> bool {
        self.full_at.get(key).is_none_or(|full_at| *full_at <= now)
    }

    /// Number of keys that are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.full_at.len()
    }

    fn make_room(&mut self, key: &K, now: UnixTime) {
        if self.full_at.len() < self.capacity || self.full_at.contains_key(key) || now < self.next_sweep {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        self.next_sweep = now.saturating_add(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        refill: Duration::from_secs(10),
    };

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_000 + seconds)
    }

    #[test]
    fn lets_a_burst_through_and_then_one_per_refill() {
        let mut throttle = Throttle::new(RATE, 10);

        for _ in 0..3 {
            assert_eq!(throttle.take("a", at(0)), Ok(()));
        }

        assert_eq!(throttle.take("a", at(0)), Err(Duration::from_secs(10)));
        assert_eq!(throttle.take("b", at(0)), Ok(()));
        assert_eq!(throttle.take("a", at(10)), Ok(()));
        assert_eq!(throttle.take("a", at(11)), Err(Duration::from_secs(9)));
    }

    #[test]
    fn a_refused_try_costs_nothing_and_a_returned_one_neither() {
        let mut throttle = Throttle::new(RATE, 10);
        for _ in 0..3 {
            throttle.take("a", at(0)).unwrap();
        }
        for _ in 0..100 {
            throttle.take("a", at(1)).unwrap_err();
        }

        throttle.give_back(&"a");

        assert_eq!(throttle.take("a", at(1)), Ok(()));
        assert_eq!(throttle.take("a", at(10)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_a_crowd_shares_one_bucket() {
        let mut throttle = Throttle::new(RATE, 100);
        let passed = (0..10_000)
            .filter(|key| throttle.take(*key, at(0)).is_ok())
            .count();

        assert_eq!(throttle.len(), 100);
        assert_eq!(passed, 103);
        assert!(throttle.take(123_456, at(0)).is_err());

        assert_eq!(throttle.take(20_000, at(100)), Ok(()));
        assert_eq!(throttle.len(), 1);
    }
}
