//! How often one client may fail to log in to one service.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::{ServiceId, UnixTime};
use moka::sync::Cache;
use parking_lot::Mutex;

/// Tries that may fail in a row before a client must wait.
const BURST: u32 = 10;

/// How long until one more try is granted.
const REFILL: Duration = Duration::from_secs(6);

/// Clients that are remembered at once; the memory for them stays below 32 MiB.
const REMEMBERED: u64 = 100_000;

/// Counts tries per client and service.
///
/// A client is an IPv4 address or an IPv6 network of 64 bits, which is what one customer usually has.
#[derive(Debug)]
pub(super) struct Attempts {
    buckets: Cache<Key, Arc<Mutex<Bucket>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: IpAddr,
    service: ServiceId,
}

#[derive(Debug)]
struct Bucket {
    used: u32,
    since: UnixTime,
}

/// A try under way. It counts as failed unless [`Attempt::succeeded`] is called.
#[derive(Debug)]
pub(super) struct Attempt(Arc<Mutex<Bucket>>);

impl Attempts {
    /// Remembers nobody.
    pub(super) fn new() -> Self {
        Self {
            buckets: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(REFILL * BURST)
                .build(),
        }
    }

    /// Begins a try, or says how long to wait.
    pub(super) fn begin(
        &self,
        client: IpAddr,
        service: &ServiceId,
        now: UnixTime,
    ) -> Result<Attempt, Duration> {
        let key = Key {
            client: network(client),
            service: service.clone(),
        };
        let bucket = self
            .buckets
            .get_with(key, || Arc::new(Mutex::new(Bucket { used: 0, since: now })));
        {
            let mut bucket = bucket.lock();
            bucket.refill(now);
            if bucket.used >= BURST {
                return Err(REFILL.saturating_sub(now.since(bucket.since)));
            }
            bucket.used += 1;
        }
        Ok(Attempt(bucket))
    }
}

impl Attempt {
    /// Gives the try back.
    pub(super) fn succeeded(self) {
        let mut bucket = self.0.lock();
        bucket.used = bucket.used.saturating_sub(1);
    }
}

impl Bucket {
    fn refill(&mut self, now: UnixTime) {
        let granted = now.since(self.since).as_secs() / REFILL.as_secs();
        let granted = u32::try_from(granted).unwrap_or(u32::MAX);
        if granted >= self.used {
            self.used = 0;
            self.since = now;
        } else {
            self.used -= granted;
            self.since = self.since.saturating_add(REFILL * granted);
        }
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn exhaust(attempts: &Attempts, ip: &str) {
        for _ in 0..BURST {
            attempts.begin(client(ip), &ServiceId::new("s1"), NOW).unwrap();
        }
    }

    #[test]
    fn failing_tries_run_out_and_come_back_one_by_one() {
        let attempts = Attempts::new();
        let service = ServiceId::new("s1");
        exhaust(&attempts, "192.0.2.1");

        assert_eq!(
            attempts.begin(client("192.0.2.1"), &service, NOW).unwrap_err(),
            REFILL
        );

        let later = NOW.saturating_add(REFILL);
        assert!(attempts.begin(client("192.0.2.1"), &service, later).is_ok());
        assert!(attempts.begin(client("192.0.2.1"), &service, later).is_err());
    }

    #[test]
    fn right_secrets_never_run_out() {
        let attempts = Attempts::new();

        for _ in 0..BURST * 3 {
            attempts
                .begin(client("192.0.2.1"), &ServiceId::new("s1"), NOW)
                .unwrap()
                .succeeded();
        }
    }

    #[test]
    fn clients_and_services_are_counted_apart_and_ipv6_by_network() {
        let attempts = Attempts::new();
        exhaust(&attempts, "2001:db8::1");

        assert!(
            attempts
                .begin(client("2001:db8::2"), &ServiceId::new("s1"), NOW)
                .is_err()
        );
        assert!(
            attempts
                .begin(client("2001:db8:0:1::1"), &ServiceId::new("s1"), NOW)
                .is_ok()
        );
        assert!(
            attempts
                .begin(client("2001:db8::1"), &ServiceId::new("s2"), NOW)
                .is_ok()
        );
    }
}
