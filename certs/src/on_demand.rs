//! Certificates of the internal authority, made when a handshake first asks for a name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use meshgate_proto::{Clock, DomainName, UnixTime};
use parking_lot::Mutex;

use crate::authority::Authority;
use crate::bundle::Bundle;
use crate::pattern::NamePattern;

/// At most this many certificates are kept; the one unused for longest makes room.
const MAX_CACHED: usize = 1024;

/// Issues one certificate for each asked name under the configured domains, and keeps it until its last
/// third.
///
/// Any client can ask for any name, so the cache is bounded and what an unknown name costs is one key
/// pair and one signature.
pub struct OnDemand {
    authority: Authority,
    bases: Vec<DomainName>,
    clock: Arc<dyn Clock>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<DomainName, Cached>,
    tick: u64,
}

struct Cached {
    bundle: Arc<Bundle>,
    used: u64,
}

impl OnDemand {
    /// Serves the given domains and every name below them; no domain, no certificate.
    pub fn new(authority: Authority, bases: Vec<DomainName>, clock: Arc<dyn Clock>) -> Self {
        Self {
            authority,
            bases,
            clock,
            cache: Mutex::default(),
        }
    }

    /// Whether the host lies within the served domains.
    pub fn covers(&self, host: &DomainName) -> bool {
        self.bases.iter().any(|base| host.is_within(base))
    }

    /// The certificate for a host within the served domains, from the cache or newly made.
    pub fn certificate_for(&self, host: &DomainName) -> Option<Arc<Bundle>> {
        if !self.covers(host) {
            return None;
        }
        let now = self.clock.now();
        if let Some(bundle) = self.cache.lock().get(host, now) {
            return Some(bundle);
        }

        match self.authority.issue(&[NamePattern::Exact(host.clone())], now) {
            Ok(bundle) => Some(self.cache.lock().insert(host, Arc::new(bundle), now)),
            Err(error) => {
                tracing::error!(domain = %host, error = %Chain(&error), "Could not issue a certificate");
                None
            }
        }
    }

    /// The authority that signs.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("authority", &self.authority)
            .field("bases", &self.bases)
            .finish_non_exhaustive()
    }
}

impl Cache {
    fn get(&mut self, host: &DomainName, now: UnixTime) -> Option<Arc<Bundle>> {
        self.tick += 1;
        let cached = self
            .entries
            .get_mut(host)
            .filter(|cached| !cached.bundle.needs_renewal(now))?;
        cached.used = self.tick;
        Some(Arc::clone(&cached.bundle))
    }

    /// Keeps the bundle, or the fresh one that another handshake made in the meantime.
    fn insert(&mut self, host: &DomainName, bundle: Arc<Bundle>, now: UnixTime) -> Arc<Bundle> {
        if self.entries.len() >= MAX_CACHED && !self.entries.contains_key(host) {
            let oldest = self.entries.iter().min_by_key(|(_, cached)| cached.used);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.tick += 1;
        let cached = Cached {
            bundle,
            used: self.tick,
        };
        match self.entries.entry(host.clone()) {
            Entry::Occupied(entry) if !entry.get().bundle.needs_renewal(now) => {
                Arc::clone(&entry.get().bundle)
            }
            Entry::Occupied(mut entry) => {
                entry.insert(cached);
                Arc::clone(&entry.get().bundle)
            }
            Entry::Vacant(entry) => Arc::clone(&entry.insert(cached).bundle),
        }
    }
}

/// Writes an error with all its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshgate_proto::ManualClock;

    use super::*;
    use crate::authority::AuthorityOptions;
    use crate::test_pki::NOW;

    #[test]
    fn refuses_names_outside_the_served_domains() {
        let (on_demand, _clock) = on_demand();

        for name in ["example.com", "notproxy.test", "proxy.test.evil.example", "test"] {
            assert!(on_demand.certificate_for(&host(name)).is_none(), "{name}");
        }
        for name in ["proxy.test", "a.proxy.test", "a.b.proxy.test"] {
            assert!(on_demand.certificate_for(&host(name)).is_some(), "{name}");
        }
    }

    #[test]
    fn renews_a_certificate_before_it_expires() {
        let (on_demand, clock) = on_demand();
        let name = host("a.proxy.test");
        let first = on_demand.certificate_for(&name).unwrap();

        clock.advance(Duration::from_hours(19 * 24));
        let same = on_demand.certificate_for(&name).unwrap();
        clock.advance(Duration::from_hours(2 * 24));
        let renewed = on_demand.certificate_for(&name).unwrap();
        clock.advance(Duration::from_hours(365 * 24));
        let after_expiry = on_demand.certificate_for(&name).unwrap();

        assert!(Arc::ptr_eq(&first, &same));
        assert!(!Arc::ptr_eq(&first, &renewed));
        assert!(first.not_after() < renewed.not_after());
        assert!(clock.now() < after_expiry.not_after());
    }

    #[test]
    fn keeps_a_bounded_number_and_drops_the_least_used() {
        let (on_demand, _clock) = on_demand();
        let kept = on_demand.certificate_for(&host("kept.proxy.test")).unwrap();
        let dropped = on_demand.certificate_for(&host("dropped.proxy.test")).unwrap();

        for number in 0..MAX_CACHED {
            let bundle = Arc::clone(&dropped);
            on_demand
                .cache
                .lock()
                .insert(&host(&format!("n{number}.proxy.test")), bundle, NOW);
            on_demand.certificate_for(&host("kept.proxy.test"));
        }

        assert_eq!(on_demand.cache.lock().entries.len(), MAX_CACHED);
        assert!(Arc::ptr_eq(
            &kept,
            &on_demand.certificate_for(&host("kept.proxy.test")).unwrap()
        ));
        assert!(!Arc::ptr_eq(
            &dropped,
            &on_demand.certificate_for(&host("dropped.proxy.test")).unwrap()
        ));
    }

    fn on_demand() -> (OnDemand, Arc<ManualClock>) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), &AuthorityOptions::default(), NOW).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let on_demand = OnDemand::new(
            authority,
            vec![host("proxy.test")],
            Arc::<ManualClock>::clone(&clock),
        );
        (on_demand, clock)
    }

    fn host(name: &str) -> DomainName {
        DomainName::new(name).unwrap()
    }
}
