//! One immutable record per host: route, access policy and targets change together or not at all.

use std::sync::Arc;

use meshgate_proto::{AccountId, DomainName, ServiceId};
use rustc_hash::FxHashMap;
use tokio_util::sync::CancellationToken;

use crate::access::AccessPolicy;
use crate::routing::matcher::PathTable;
use crate::upstream::Target;

/// All routes at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    hosts: FxHashMap<DomainName, Arc<Route>>,
    revision: u64,
}

impl Snapshot {
    /// Joins routes by host name.
    pub(crate) fn new(hosts: FxHashMap<DomainName, Arc<Route>>, revision: u64) -> Self {
        Self { hosts, revision }
    }

    /// The route of a host name in lower case without port and trailing dot.
    pub(crate) fn host(&self, name: &str) -> Option<&Arc<Route>> {
        self.hosts.get(name)
    }

    /// All routes, in no order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.hosts.values()
    }

    /// Counts changes.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }
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
