//! Makes the effects of a message true: routes, tunnels and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshgate_proto::{Mapping, ServiceId};

use super::board::{StatusBoard, Subject};
use super::sync::{Broken, Effect};
use crate::routing::{LiveConnections, RouteTable, Unservable, compile, unavailable};
use crate::tunnels::Tunnels;

/// Effects that become visible together at most: a long message is published in parts, so that its first
/// services need not wait for its last.
const PART: usize = 64;

/// Why a private service is not active: only the public listener is there, and it denies.
const PRIVATE: &str = "private services need the tunnel listener";

/// Owns the route table. Nothing here waits: tunnels open on their own.
#[derive(Debug)]
pub(crate) struct Applier {
    table: RouteTable,
    tunnels: Tunnels,
    board: Arc<StatusBoard>,
    /// Services whose host another service serves.
    shadowed: BTreeMap<ServiceId, Arc<Mapping>>,
    /// Services whose mapping was understood and cannot be served.
    refused: BTreeSet<ServiceId>,
}

impl Applier {
    /// An applier that changes `table`.
    pub(crate) fn new(table: RouteTable, tunnels: Tunnels, board: Arc<StatusBoard>) -> Self {
        Self {
            table,
            tunnels,
            board,
            shadowed: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Applies effects in order and makes them visible, [`PART`] by [`PART`].
    pub(crate) fn apply(&mut self, effects: Vec<Effect>) {
        let mut changed = 0;
        for effect in effects {
            match effect {
                Effect::Refresh(mapping) => {
                    if !self.refused.contains(&mapping.id) {
                        self.require_tunnel(&mapping);
                    }
                    continue;
                }
                Effect::Serve { mapping, live } => self.serve(&mapping, live),
                Effect::Break(broken) => self.break_service(broken),
                Effect::Withdraw(service) => self.withdraw(&service),
            }
            changed += 1;
            if changed == PART {
                self.publish();
                changed = 0;
            }
        }
        if changed > 0 {
            self.publish();
        }
    }

    /// The snapshot is whole: from now on an unknown host is known to be unknown.
    pub(crate) fn snapshot_complete(&mut self) {
        if self.table.next_revision() == 1 {
            self.publish();
        }
    }

    /// What is held for services, as a number.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.shadowed.len() + self.refused.len() + self.table.held() + self.board.held()
    }

    fn serve(&mut self, mapping: &Arc<Mapping>, live: LiveConnections) {
        self.shadowed.remove(&mapping.id);
        let route = match compile(mapping, self.table.next_revision(), &self.tunnels) {
            Ok(route) => route,
            Err(error) => return self.refuse(mapping, &error),
        };
        self.refused.remove(&mapping.id);
        self.table.put(route, live);
        if mapping.private {
            return self.report_private(mapping);
        }
        self.require_tunnel(mapping);
        if let Some(rival) = self.table.rival(&mapping.id, &mapping.domain) {
            let reason = format!("{} is already served by service {rival}", mapping.domain);
            tracing::warn!(service.id = %mapping.id, reason, "Service cannot be served");
            self.board
                .put(&mapping.id, &mapping.account_id, Subject::Broken(reason));
            self.shadowed.insert(mapping.id.clone(), Arc::clone(mapping));
            return;
        }
        self.board.put(&mapping.id, &mapping.account_id, served(mapping));
    }

    /// Its route denies everybody, and no tunnel is needed for that.
    fn report_private(&mut self, mapping: &Mapping) {
        self.tunnels.release(&mapping.id);
        self.refused.insert(mapping.id.clone());
        tracing::warn!(service.id = %mapping.id, reason = PRIVATE, "Service cannot be served");
        let subject = Subject::Broken(PRIVATE.to_owned());
        self.board.put(&mapping.id, &mapping.account_id, subject);
    }

    /// A mapping that was understood and cannot be served.
    fn refuse(&mut self, mapping: &Mapping, error: &Unservable) {
        tracing::warn!(service.id = %mapping.id, error = %error, "Service cannot be served");
        self.tunnels.release(&mapping.id);
        self.refused.insert(mapping.id.clone());
        match error {
            Unservable::Mode(_) => self.table.remove(&mapping.id),
            Unservable::Policy(_) | Unservable::Path(_) | Unservable::Target { .. } => {
                let (id, account) = (mapping.id.clone(), mapping.account_id.clone());
                let route = unavailable(id, account, mapping.domain.clone(), error.to_string());
                self.table.put(route, LiveConnections::Cut);
            }
        }
        self.board.put(
            &mapping.id,
            &mapping.account_id,
            Subject::Broken(error.to_string()),
        );
    }

    /// A mapping that was not understood. Its former host keeps the page that says so.
    fn break_service(&mut self, broken: Broken) {
        let Broken {
            service_id,
            account_id,
            domain,
            reason,
        } = broken;
        tracing::warn!(service.id = %service_id, error = %reason, "Mapping was not understood");
        self.shadowed.remove(&service_id);
        self.tunnels.release(&service_id);
        self.board
            .put(&service_id, &account_id, Subject::Broken(reason.clone()));
        match domain {
            Some(domain) => {
                self.table.put(
                    unavailable(service_id, account_id, domain, reason),
                    LiveConnections::Cut,
                );
            }
            None => self.table.remove(&service_id),
        }
    }

    fn withdraw(&mut self, service: &ServiceId) {
        self.refused.remove(service);
        self.shadowed.remove(service);
        self.table.remove(service);
        self.tunnels.release(service);
        self.board.remove(service);
    }

    fn require_tunnel(&self, mapping: &Mapping) {
        if tunnelled(mapping) {
            self.tunnels
                .require(&mapping.account_id, &mapping.id, &mapping.auth_token);
        } else {
            self.tunnels.release(&mapping.id);
        }
    }

    /// Makes changes visible and reports the services whose host has become theirs.
    fn publish(&mut self) {
        for heir in self.table.publish() {
            let Some(mapping) = self.shadowed.get(&heir) else {
                continue;
            };
            if self.table.rival(&heir, &mapping.domain).is_none() {
                self.board.put(&heir, &mapping.account_id, served(mapping));
                self.shadowed.remove(&heir);
            }
        }
    }
}

fn served(mapping: &Mapping) -> Subject {
    Subject::Served {
        domain: mapping.domain.clone(),
        tunnelled: tunnelled(mapping),
    }
}

fn tunnelled(mapping: &Mapping) -> bool {
    mapping.paths.iter().any(|path| !path.options.direct_upstream)
}
