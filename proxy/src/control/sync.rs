//! What the messages of a mapping stream change: pure, without clock, sockets or locks.
//!
//! Input goes through [`SyncState::handle_started`], [`SyncState::handle_batch`] and [`SyncState::handle_ended`];
//! each call takes in one thing and gives back its effects, in order. An unchanged mapping has no effect
//! beyond its fresh token, so that a reconnect, which replays everything, disturbs nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshgate_proto::{AccountId, BrokenMapping, DomainName, Mapping, MappingBatch, MappingChange, ServiceId};

use crate::routing::LiveConnections;

/// What to do after a message.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Serve a mapping that is new or changed.
    Serve {
        /// The mapping.
        mapping: Arc<Mapping>,
        /// What becomes of connections under the mapping before.
        live: LiveConnections,
    },
    /// Take the fresh token of a mapping that did not change.
    Refresh(Arc<Mapping>),
    /// Serve nothing but the page that says so.
    Break(Broken),
    /// Forget a service.
    Withdraw(ServiceId),
}

/// A service whose mapping could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The service.
    pub(crate) service_id: ServiceId,
    /// Its tenant, as far as it is known.
    pub(crate) account_id: AccountId,
    /// The host it was served under before, if any.
    pub(crate) domain: Option<DomainName>,
    /// What is wrong.
    pub(crate) reason: String,
}

#[derive(Clone, Debug)]
enum Known {
    Mapping(Arc<Mapping>),
    Broken(Broken),
}

/// Everything that management has said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncState {
    services: BTreeMap<ServiceId, Known>,
    /// Services seen in the snapshot under way; `None` between snapshots.
    seen: Option<BTreeSet<ServiceId>>,
}

impl SyncState {
    /// A stream began: its first messages are a snapshot.
    pub(crate) fn handle_started(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    /// A stream ended. A snapshot cut short says nothing about what it did not name.
    pub(crate) fn handle_ended(&mut self) {
        self.seen = None;
    }

    /// One message arrived.
    pub(crate) fn handle_batch(&mut self, batch: MappingBatch) -> Vec<Effect> {
        let mut effects = Vec::new();
        for change in batch.changes {
            effects.extend(self.change(change));
        }
        for broken in batch.broken {
            effects.extend(self.broken(broken));
        }
        if batch.initial_sync_complete {
            self.reconcile(&mut effects);
        }
        effects
    }

    /// True while the snapshot of the present stream is not whole.
    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.seen.is_some()
    }

    /// How many services are known.
    pub(crate) fn len(&self) -> usize {
        self.services.len()
    }

    fn change(&mut self, change: MappingChange) -> Option<Effect> {
        match change {
            MappingChange::Created(mapping) | MappingChange::Modified(mapping) => {
                Some(self.mapping(Arc::from(mapping)))
            }
            MappingChange::Removed(removal) => self
                .services
                .remove(&removal.id)
                .map(|_| Effect::Withdraw(removal.id)),
        }
    }

    fn mapping(&mut self, mapping: Arc<Mapping>) -> Effect {
        self.mark(&mapping.id);
        let live = match self.services.get(&mapping.id) {
            Some(Known::Mapping(old)) if old.says_the_same_as(&mapping) => {
                self.services
                    .insert(mapping.id.clone(), Known::Mapping(Arc::clone(&mapping)));
                return Effect::Refresh(mapping);
            }
            Some(Known::Mapping(old)) if widens(old, &mapping) => LiveConnections::Keep,
            Some(Known::Mapping(_) | Known::Broken(_)) | None => LiveConnections::Cut,
        };
        self.services
            .insert(mapping.id.clone(), Known::Mapping(Arc::clone(&mapping)));
        Effect::Serve { mapping, live }
    }

    fn broken(&mut self, broken: BrokenMapping) -> Option<Effect> {
        self.mark(&broken.id);
        let old = self.services.get(&broken.id);
        let broken = Broken {
            domain: broken.domain.or_else(|| match old {
                Some(Known::Mapping(old)) => Some(old.domain.clone()),
                Some(Known::Broken(old)) => old.domain.clone(),
                None => None,
            }),
            service_id: broken.id,
            account_id: broken.account_id,
            reason: broken.error.to_string(),
        };
        if matches!(old, Some(Known::Broken(old)) if *old == broken) {
            return None;
        }
        self.services
            .insert(broken.service_id.clone(), Known::Broken(broken.clone()));
        Some(Effect::Break(broken))
    }

    fn mark(&mut self, service: &ServiceId) {
        if let Some(seen) = &mut self.seen {
            seen.insert(service.clone());
        }
    }

    /// The snapshot is whole: what it did not name is gone.
    fn reconcile(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = self.seen.take() else {
            return;
        };
        let stale: Vec<_> = self
            .services
            .keys()
            .filter(|id| !seen.contains(*id))
            .cloned()
            .collect();
        for id in stale {
            self.services.remove(&id);
            effects.push(Effect::Withdraw(id));
        }
    }
}

/// True when everything that was allowed and reachable before still is, in the same way.
fn widens(old: &Mapping, new: &Mapping) -> bool {
    same_rules(old, new) && old.paths.iter().all(|path| new.paths.contains(path))
}

/// Takes every field by name, so that a new one cannot be forgotten here.
fn same_rules(old: &Mapping, new: &Mapping) -> bool {
    let Mapping {
        id,
        account_id,
        domain,
        mode,
        listen_port,
        paths: _,
        auth_token: _,
        auth,
        restrictions,
        pass_host_header: _,
        rewrite_redirects: _,
        private,
    } = old;
    *id == new.id
        && *account_id == new.account_id
        && *domain == new.domain
        && *mode == new.mode
        && *listen_port == new.listen_port
        && *auth == new.auth
        && *restrictions == new.restrictions
        && *private == new.private
}

#[cfg(test)]
mod tests;
