//! The routes by service, from which snapshots are published.

use std::sync::Arc;

use arc_swap::ArcSwap;
use meshgate_proto::{DomainName, ServiceId};
use rustc_hash::FxHashMap;
use tokio_util::sync::CancellationToken;

use super::snapshot::{Route, Snapshot};

/// What becomes of the connections that live under a route when it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveConnections {
    /// They go on: who may pass and where it leads are as before.
    Keep,
    /// They end.
    Cut,
}

/// All routes by service. Changes are collected and become visible together with [`RouteTable::publish`].
///
/// Where two services claim one host, the earlier keeps it until it goes. What a change costs does not
/// depend on how many services there are.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    shared: Arc<ArcSwap<Snapshot>>,
    /// The next snapshot, as far as it is known.
    next: Snapshot,
    services: FxHashMap<ServiceId, Arc<Route>>,
    claims: FxHashMap<DomainName, Vec<ServiceId>>,
    heirs: Vec<ServiceId>,
    to_cut: Vec<CancellationToken>,
}

impl RouteTable {
    /// What requests read.
    pub(crate) fn shared(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.shared
    }

    /// The number that the next published snapshot will have.
    pub(crate) fn next_revision(&self) -> u64 {
        self.next.revision() + 1
    }

    /// Adds a route or replaces that of the same service.
    pub(crate) fn put(&mut self, mut route: Route, live: LiveConnections) {
        if let Some(old) = self.services.remove(&route.service_id) {
            match live {
                LiveConnections::Keep => route.closed = old.closed.clone(),
                LiveConnections::Cut => self.to_cut.push(old.closed.clone()),
            }
            if old.domain != route.domain {
                self.release(&old);
            }
        }
        let claims = self.claims.entry(route.domain.clone()).or_default();
        if !claims.contains(&route.service_id) {
            claims.push(route.service_id.clone());
        }
        let domain = route.domain.clone();
        self.services.insert(route.service_id.clone(), Arc::new(route));
        self.settle(&domain);
    }

    /// Takes the route of a service away.
    pub(crate) fn remove(&mut self, service: &ServiceId) {
        if let Some(old) = self.services.remove(service) {
            self.to_cut.push(old.closed.clone());
            self.release(&old);
        }
    }

    /// The service that serves a host, if it is another than the given one.
    pub(crate) fn rival(&self, service: &ServiceId, domain: &DomainName) -> Option<&ServiceId> {
        self.claims.get(domain)?.first().filter(|first| *first != service)
    }

    /// Makes all changes visible at once, then ends the connections that must end. Gives the services that
    /// inherited a host from another.
    pub(crate) fn publish(&mut self) -> Vec<ServiceId> {
        self.next.count_change();
        self.shared.store(Arc::new(self.next.clone()));
        for closed in self.to_cut.drain(..) {
            closed.cancel();
        }
        std::mem::take(&mut self.heirs)
    }

    /// Routes and claims that are kept, as a number.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.services.len() + self.claims.len() + self.heirs.len() + self.to_cut.len()
    }

    /// Ends the claim of a route that has left `services`.
    fn release(&mut self, route: &Route) {
        let Some(claims) = self.claims.get_mut(&route.domain) else {
            return;
        };
        let led = claims.first() == Some(&route.service_id);
        claims.retain(|claim| *claim != route.service_id);
        match claims.first() {
            Some(heir) if led => self.heirs.push(heir.clone()),
            Some(_) => {}
            None => {
                self.claims.remove(&route.domain);
            }
        }
        self.settle(&route.domain);
    }

    /// Gives a host to the first that claims it.
    fn settle(&mut self, domain: &DomainName) {
        let first = self.claims.get(domain).and_then(|claims| claims.first());
        let route = first.and_then(|first| self.services.get(first)).cloned();
        self.next.set(domain, route);
    }
}
