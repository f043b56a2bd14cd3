//! All certificates by the names they cover, replaced whole source by source.
//!
//! Readers take an immutable table without a lock; writers build a new one. Where several certificates
//! cover the same name, the one that lives longest is served.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meshgate_proto::DomainName;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::bundle::Bundle;
use crate::pattern::NamePattern;

/// Names one origin of certificates: a pair of files, a directory, an account at an authority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// Takes any text; equal texts are the same source.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The certificates that handshakes choose from.
#[derive(Debug)]
pub struct CertStore {
    table: ArcSwap<Table>,
    sources: Mutex<BTreeMap<SourceName, Vec<Arc<Bundle>>>>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    exact: HashMap<DomainName, Arc<Bundle>>,
    wildcard: HashMap<DomainName, Arc<Bundle>>,
}

impl CertStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            table: ArcSwap::default(),
            sources: Mutex::new(BTreeMap::new()),
            revision: watch::Sender::new(0),
        }
    }

    /// Puts `bundles` in place of everything that `source` held before; an empty list removes it.
    ///
    /// Handshakes see either the old or the new certificates, never a mixture.
    pub fn replace(&self, source: &SourceName, bundles: Vec<Arc<Bundle>>) {
        let mut sources = self.sources.lock();
        if bundles.is_empty() {
            sources.remove(source);
        } else {
            sources.insert(source.clone(), bundles);
        }
        self.table
            .store(Arc::new(Table::build(sources.values().flatten())));
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// The certificate for a host: its own name first, then a wildcard one label up.
    pub fn find(&self, host: &DomainName) -> Option<Arc<Bundle>> {
        let table = self.table.load();
        if let Some(bundle) = table.exact.get(host) {
            return Some(Arc::clone(bundle));
        }
        let (_, base) = host.as_str().split_once('.')?;
        table.wildcard.get(base).cloned()
    }

    /// Whether a handshake for this host gets a certificate.
    pub fn covers(&self, host: &DomainName) -> bool {
        self.find(host).is_some()
    }

    /// Counts the replacements; a receiver wakes after each one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl Default for CertStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    fn build<'a>(bundles: impl Iterator<Item = &'a Arc<Bundle>>) -> Self {
        let mut table = Self::default();
        for bundle in bundles {
            for name in bundle.names() {
                let (map, name) = match name {
                    NamePattern::Exact(name) => (&mut table.exact, name),
                    NamePattern::Wildcard(base) => (&mut table.wildcard, base),
                };
                let best = map.entry(name.clone()).or_insert_with(|| Arc::clone(bundle));
                if best.not_after() < bundle.not_after() {
                    *best = Arc::clone(bundle);
                }
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshgate_proto::UnixTime;

    use super::*;
    use crate::test_pki::{NOW, TestPki};

    #[test]
    fn own_name_comes_before_the_wildcard() {
        let store = CertStore::new();
        let wildcard = bundle(&["*.app.test"], NOW.saturating_add(Duration::from_mins(15)));
        let exact = bundle(&["a.app.test"], NOW.saturating_add(Duration::from_secs(10)));

        store.replace(
            &SourceName::new("1"),
            vec![Arc::clone(&wildcard), Arc::clone(&exact)],
        );

        assert!(Arc::ptr_eq(&store.find(&host("a.app.test")).unwrap(), &exact));
        assert!(Arc::ptr_eq(&store.find(&host("b.app.test")).unwrap(), &wildcard));
        assert!(!store.covers(&host("app.test")));
        assert!(!store.covers(&host("a.b.app.test")));
        assert!(!store.covers(&host("test")));
    }

    #[test]
    fn the_longest_living_certificate_wins_whatever_its_source() {
        let store = CertStore::new();
        let short = bundle(&["app.test"], NOW.saturating_add(Duration::from_secs(10)));
        let long = bundle(&["app.test"], NOW.saturating_add(Duration::from_mins(15)));

        for (first, second) in [(&short, &long), (&long, &short)] {
            store.replace(&SourceName::new("1"), vec![Arc::clone(first)]);
            store.replace(&SourceName::new("2"), vec![Arc::clone(second)]);

            assert!(Arc::ptr_eq(&store.find(&host("app.test")).unwrap(), &long));
        }
    }

    #[test]
    fn a_source_is_replaced_whole_and_others_stay() {
        let store = CertStore::new();
        let revision = store.subscribe();
        let (one, two) = (SourceName::new("1"), SourceName::new("2"));
        let until = NOW.saturating_add(Duration::from_mins(15));
        store.replace(&one, vec![bundle(&["a.test"], until)]);
        store.replace(&two, vec![bundle(&["b.test"], until)]);

        store.replace(&one, vec![]);

        assert!(!store.covers(&host("a.test")));
        assert!(store.covers(&host("b.test")));
        assert_eq!(*revision.borrow(), 3);
    }

    fn bundle(names: &[&str], not_after: UnixTime) -> Arc<Bundle> {
        let pair = TestPki::new().pair_until(names, not_after);
        Arc::new(Bundle::from_pem(pair.chain.as_bytes(), pair.key.as_bytes(), NOW).unwrap())
    }

    fn host(name: &str) -> DomainName {
        DomainName::new(name).unwrap()
    }
}
