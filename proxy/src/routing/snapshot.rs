//! One immutable record per host: route, access policy and targets change together or not at all.
//!
//! Hosts are spread over shards that snapshots share, so that a change costs one shard and not the whole.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use meshgate_proto::{AccountId, DomainName, ServiceId};
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio_util::sync::CancellationToken;

use crate::access::AccessPolicy;
use crate::routing::matcher::PathTable;
use crate::upstream::Target;

/// Parts of a snapshot: each change copies one of them, and each snapshot points to all.
const SHARDS: usize = 256;

/// All routes at one moment. A clone shares every shard until one of the two changes it.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    shards: Box<[Arc<Shard>]>,
    revision: u64,
}

#[derive(Clone, Debug, Default)]
struct Shard(FxHashMap<DomainName, Arc<Route>>);

impl Snapshot {
    /// The route of a host name in lower case without port and trailing dot.
    pub(crate) fn host(&self, name: &str) -> Option<&Arc<Route>> {
        self.shards.get(shard_of(name))?.0.get(name)
    }

    /// All routes, in no order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.shards.iter().flat_map(|shard| shard.0.values())
    }

    /// Counts changes.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Sets the route of a host, or takes it away.
    pub(super) fn set(&mut self, host: &DomainName, route: Option<Arc<Route>>) {
        let Some(shard) = self.shards.get_mut(shard_of(host.as_str())) else {
            return;
        };
        let same = match (shard.0.get(host), &route) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            return;
        }
        let hosts = &mut Arc::make_mut(shard).0;
        match route {
            Some(route) => hosts.insert(host.clone(), route),
            None => hosts.remove(host),
        };
    }

    /// Makes this the snapshot after the last.
    pub(super) fn count_change(&mut self) {
        self.revision += 1;
    }

    /// How many entries this snapshot does not share with an earlier one.
    #[cfg(test)]
    pub(crate) fn copied_since(&self, earlier: &Self) -> usize {
        let pairs = self.shards.iter().zip(&earlier.shards);
        pairs
            .filter(|(new, old)| !Arc::ptr_eq(new, old))
            .map(|(new, _)| new.0.len())
            .sum()
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            shards: vec![Arc::default(); SHARDS].into(),
            revision: 0,
        }
    }
}

/// The shard of a host. The maps within spread by the other bits of the same hash.
fn shard_of(host: &str) -> usize {
    let [_, _, shard, ..] = FxBuildHasher.hash_one(host).to_be_bytes();
    usize::from(shard) % SHARDS
}

/// Whether a route can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteState {
    /// Requests are let through to access control.
    Ready,
    /// Every request gets the page for unavailable services; the reason is for the operator.
    Unavailable(String),
}

/// The compiled entry of one host.
#[derive(Debug)]
pub(crate) struct Route {
    /// The service.
    pub(crate) service_id: ServiceId,
    /// Its tenant.
    pub(crate) account_id: AccountId,
    /// Its host name.
    pub(crate) domain: DomainName,
    /// Who may pass.
    pub(crate) policy: AccessPolicy,
    /// The target sees the client's Host header.
    pub(crate) pass_host_header: bool,
    /// Redirects that name the target are rewritten.
    pub(crate) rewrite_redirects: bool,
    /// Whether it can be served.
    pub(crate) state: RouteState,
    /// Targets by path prefix.
    pub(crate) paths: PathTable<Arc<Target>>,
    /// Cancelled once live connections under this route must end.
    pub(crate) closed: CancellationToken,
}

impl Route {
    /// The target of a normalised path, and the prefix that led to it ("" for `/`).
    pub(crate) fn target<'a>(&'a self, path: &str) -> Option<(&'a Arc<Target>, &'a str)> {
        self.paths.find(path)
    }
}
