//! How many wrong secrets may be tried.
//!
//! A try is counted before it is compared and given back when it was right, so a thousand tries at once count
//! like a thousand one after another, and whoever knows the secret is never slowed by himself. Two cases:
//!
//! - The proxy names its client: ten wrong tries by an address at once, then ten a minute. All addresses
//!   together may miss a hundred times at once and then once a second, but an address without a miss always
//!   gets its first try: strangers cannot lock the owner out.
//! - The proxy does not name its client (the protocol has no field for it): thirty misses per service at once,
//!   then one every two seconds. Two seconds after an attack ends the owner gets in; a PIN of six digits
//!   takes eleven days on average.

use std::net::IpAddr;
use std::time::Duration;

use meshgate_proto::{ServiceId, UnixTime};
use parking_lot::Mutex;

use crate::throttle::{Rate, Throttle, source_network};

const PER_SOURCE: Rate = Rate {
    burst: 10,
    refill: Duration::from_secs(6),
};
const ALL_SOURCES: Rate = Rate {
    burst: 100,
    refill: Duration::from_secs(1),
};
const UNKNOWN_SOURCE: Rate = Rate {
    burst: 30,
    refill: Duration::from_secs(2),
};
const MAX_SOURCES: usize = 50_000;
const MAX_SERVICES: usize = 10_000;

/// Counts wrong tries by service and client.
#[derive(Debug)]
pub struct GuessLimiter(Mutex<Buckets>);

#[derive(Debug)]
struct Buckets {
    sources: Throttle<(ServiceId, IpAddr)>,
    all_sources: Throttle<ServiceId>,
    unknown: Throttle<ServiceId>,
}

/// The limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong tries; try again in {} s", retry_after.as_secs().max(1))]
pub struct TooManyGuesses {
    /// When the next try is allowed.
    pub retry_after: Duration,
}

/// A try that has been counted.
#[derive(Debug)]
#[must_use = "a right secret is to be given back"]
pub struct CountedGuess {
    service: ServiceId,
    source: Option<IpAddr>,
    counted_for_all: bool,
}

impl Default for GuessLimiter {
    fn default() -> Self {
        Self(Mutex::new(Buckets {
            sources: Throttle::new(PER_SOURCE, MAX_SOURCES),
            all_sources: Throttle::new(ALL_SOURCES, MAX_SERVICES),
            unknown: Throttle::new(UNKNOWN_SOURCE, MAX_SERVICES),
        }))
    }
}

impl GuessLimiter {
    /// Counts a try, or refuses it.
    pub fn count(
        &self,
        service: &ServiceId,
        source: Option<IpAddr>,
        now: UnixTime,
    ) -> Result<CountedGuess, TooManyGuesses> {
        let source = source.map(source_network);
        let counted_for_all = self.0.lock().count(service, source, now)?;
        Ok(CountedGuess {
            service: service.clone(),
            source,
            counted_for_all,
        })
    }

    /// Takes a try back: the secret was right, or it was never compared.
    pub fn give_back(&self, guess: CountedGuess) {
        let mut buckets = self.0.lock();
        let CountedGuess {
            service,
            source,
            counted_for_all,
        } = guess;
        if counted_for_all {
            buckets.all_sources.give_back(&service);
        }
        match source {
            Some(source) => buckets.sources.give_back(&(service, source)),
            None => buckets.unknown.give_back(&service),
        }
    }
}

impl Buckets {
    /// Returns whether the bucket of all sources was charged too.
    fn count(
        &mut self,
        service: &ServiceId,
        source: Option<IpAddr>,
        now: UnixTime,
    ) -> Result<bool, TooManyGuesses> {
        let refused = |retry_after| TooManyGuesses { retry_after };
        let Some(source) = source else {
            self.unknown.take(service.clone(), now).map_err(refused)?;
            return Ok(false);
        };
        let key = (service.clone(), source);
        let first_try = self.sources.is_untouched(&key, now);
        self.sources.take(key, now).map_err(refused)?;
        let charged = self.all_sources.take(service.clone(), now);
        match charged {
            Ok(()) => Ok(true),
            Err(_) if first_try => Ok(false),
            Err(retry_after) => {
                self.sources.give_back(&(service.clone(), source));
                Err(refused(retry_after))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    fn service() -> ServiceId {
        ServiceId::new("svc")
    }

    fn misses(limiter: &GuessLimiter, source: Option<IpAddr>, tries: usize, now: UnixTime) -> usize {
        (0..tries)
            .filter(|_| limiter.count(&service(), source, now).is_ok())
            .count()
    }

    #[test]
    fn one_address_is_slowed_and_others_are_not() {
        let limiter = GuessLimiter::default();
        let attacker = Some("192.0.2.1".parse().unwrap());
        let owner = Some("192.0.2.2".parse().unwrap());

        assert_eq!(misses(&limiter, attacker, 1000, at(0)), 10);
        assert_eq!(misses(&limiter, attacker, 1000, at(60)), 10);

        assert!(limiter.count(&service(), owner, at(60)).is_ok());
    }

    #[test]
    fn a_crowd_of_attackers_does_not_keep_the_owner_out() {
        let limiter = GuessLimiter::default();
        let crowd = (0..200u32).map(|n| Some(IpAddr::from((0xC000_0200 + n).to_be_bytes())));
        let passed: usize = crowd.map(|source| misses(&limiter, source, 100, at(0))).sum();

        assert!(passed <= 100 + 200, "{passed}");

        let owner = Some("198.51.100.7".parse().unwrap());
        for _ in 0..50 {
            let guess = limiter.count(&service(), owner, at(0)).unwrap();
            limiter.give_back(guess);
        }
    }

    #[test]
    fn without_an_address_the_lock_ends_two_seconds_after_the_attack() {
        let limiter = GuessLimiter::default();

        assert_eq!(misses(&limiter, None, 1000, at(0)), 30);
        let refused = limiter.count(&service(), None, at(1)).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(1));
        assert!(limiter.count(&service(), None, at(2)).is_ok());
        assert!(limiter.count(&ServiceId::new("neighbour"), None, at(0)).is_ok());
    }

    #[test]
    fn addresses_of_one_customer_count_as_one() {
        let limiter = GuessLimiter::default();
        let passed: usize = (0..100u16)
            .map(|n| {
                misses(
                    &limiter,
                    Some(IpAddr::from([0x2001, 0xdb8, 1, 0xFF00 | n, n, 0, 0, 1])),
                    5,
                    at(0),
                )
            })
            .sum();

        assert_eq!(passed, 10);
        assert_eq!(
            source_network("::ffff:192.0.2.1".parse().unwrap()),
            "192.0.2.1".parse::<IpAddr>().unwrap()
        );
    }
}
