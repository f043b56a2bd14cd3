//! Management as a proxy sees it: its mappings, and one stream of messages about them.

use std::collections::{BTreeMap, VecDeque};

use meshgate_proto::{
    AccountId, BrokenMapping, DomainName, InvalidMessage, Mapping, MappingBatch, MappingChange, PathMapping,
    Removal, Secret, ServiceId, ServiceMode, TargetOptions,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::routing::tests::mapping;
use crate::routing::{Route, RouteState, Snapshot};

/// Services that there may be.
const SERVICES: u32 = 12;
/// Hosts that they share: some claim the same.
const HOSTS: u32 = 10;
/// Messages that a proxy may be behind.
const MOST_WAITING: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Management {
    services: BTreeMap<ServiceId, Said>,
    stream: Option<VecDeque<MappingBatch>>,
    version: u32,
    /// Counts the one-time tokens, which are fresh in every message.
    tokens: u32,
}

/// What management says of a service.
#[derive(Clone, Debug)]
struct Said {
    domain: DomainName,
    account: AccountId,
    version: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A mapping that can be served.
    Good,
    /// A mapping of a mode that no route has.
    Unservable,
    /// A mapping that cannot be understood.
    Broken,
}

impl Management {
    pub(super) fn len(&self) -> usize {
        self.services.len()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Nothing is under way.
    pub(super) fn is_through(&self) -> bool {
        self.stream.as_ref().is_none_or(VecDeque::is_empty)
    }

    /// The proxy is so far behind that it is better off with a new snapshot.
    pub(super) fn lags(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.len() > MOST_WAITING)
    }

    /// A stream opens: a snapshot in messages of so many services, and what changes from now on.
    pub(super) fn connect(&mut self, size: usize) {
        let services: Vec<ServiceId> = self.services.keys().cloned().collect();
        let mut messages: VecDeque<MappingBatch> = services
            .chunks(size)
            .map(|ids| {
                let mut message = MappingBatch::default();
                for id in ids {
                    self.say(id, &mut message);
                }
                message
            })
            .collect();
        match messages.back_mut() {
            Some(last) => last.initial_sync_complete = true,
            None => messages.push_back(MappingBatch {
                initial_sync_complete: true,
                ..MappingBatch::default()
            }),
        }
        self.stream = Some(messages);
    }

    pub(super) fn disconnect(&mut self) {
        self.stream = None;
    }

    /// The next message; one that is repeated comes again after it.
    pub(super) fn next_message(&mut self, repeated: bool) -> Option<MappingBatch> {
        let stream = self.stream.as_mut()?;
        if repeated && let Some(first) = stream.front().cloned() {
            stream.push_front(first);
        }
        stream.pop_front()
    }

    /// Somebody changes some services.
    pub(super) fn change(&mut self, rng: &mut StdRng) {
        let mut message = MappingBatch::default();
        for _ in 0..rng.random_range(1..4) {
            let id = ServiceId::new(format!("s{}", rng.random_range(0..SERVICES)));
            if message_names(&message, &id) {
                continue;
            }
            if rng.random_bool(0.25) {
                self.services.remove(&id);
            } else {
                self.version += 1;
                let said = self.draw(rng, &id);
                self.services.insert(id.clone(), said);
            }
            self.say(&id, &mut message);
        }
        if let Some(stream) = &mut self.stream {
            stream.push_back(message);
        }
    }

    pub(super) fn remove_all(&mut self) {
        let ids: Vec<ServiceId> = std::mem::take(&mut self.services).into_keys().collect();
        let mut message = MappingBatch::default();
        for id in &ids {
            self.say(id, &mut message);
        }
        if let Some(stream) = &mut self.stream {
            stream.push_back(message);
        }
    }

    /// The routes are what the mappings say, no more and no less.
    pub(super) fn check(&self, snapshot: &Snapshot) {
        for route in snapshot.routes() {
            assert!(self.still_says(route), "nobody says {route:?}");
        }
        for (id, said) in &self.services {
            let route = snapshot.host(said.domain.as_str());
            if said.kind == Kind::Unservable {
                assert!(route.is_none_or(|route| route.service_id != *id), "{route:?}");
                continue;
            }
            assert!(route.is_some(), "{id} is not served: {said:?}");
        }
    }

    /// The route is what management says of its service now.
    pub(super) fn still_says(&self, route: &Route) -> bool {
        let Some(said) = self.services.get(&route.service_id) else {
            return false;
        };
        let same = route.domain == said.domain && route.account_id == said.account;
        let leads = |version: u32| {
            let path = path(version);
            route.target(&path).is_some_and(|(_, prefix)| prefix == path)
        };
        same && match (said.kind, &route.state) {
            (Kind::Good, RouteState::Ready) => leads(said.version),
            (Kind::Broken, RouteState::Unavailable(reason)) => reason.contains(&path(said.version)),
            (Kind::Good | Kind::Broken | Kind::Unservable, _) => false,
        }
    }

    fn draw(&self, rng: &mut StdRng, id: &ServiceId) -> Said {
        let old = self.services.get(id);
        let domain = match old {
            Some(old) if rng.random_bool(0.7) => old.domain.clone(),
            _ => DomainName::new(&format!("h{}.test", rng.random_range(0..HOSTS))).unwrap(),
        };
        let kind = match rng.random_range(0..10) {
            0 => Kind::Unservable,
            1 | 2 => Kind::Broken,
            _ => Kind::Good,
        };
        Said {
            domain,
            account: AccountId::new(format!("a{}", rng.random_range(0..3))),
            version: self.version,
            kind,
        }
    }

    /// Puts what there is to say about a service into a message.
    fn say(&mut self, id: &ServiceId, message: &mut MappingBatch) {
        self.tokens += 1;
        let Some(said) = self.services.get(id) else {
            let removal = Removal {
                id: id.clone(),
                account_id: AccountId::new("a0"),
                domain: None,
            };
            return message.changes.push(MappingChange::Removed(removal));
        };
        if said.kind == Kind::Broken {
            return message.broken.push(BrokenMapping {
                id: id.clone(),
                account_id: said.account.clone(),
                domain: Some(said.domain.clone()),
                error: InvalidMessage::new("mapping.mode", path(said.version)),
            });
        }
        let mut mapping: Mapping = mapping(id.as_str(), said.domain.as_str());
        mapping.account_id = said.account.clone();
        mapping.auth_token = Secret::from(format!("token{}", self.tokens));
        mapping.paths.push(PathMapping {
            path: path(said.version),
            target: "http://100.64.0.1:8080/".into(),
            options: TargetOptions::default(),
        });
        if said.kind == Kind::Unservable {
            mapping.mode = ServiceMode::Udp;
        }
        let change = if self.tokens.is_multiple_of(2) {
            MappingChange::Created(Box::new(mapping))
        } else {
            MappingChange::Modified(Box::new(mapping))
        };
        message.changes.push(change);
    }
}

fn message_names(message: &MappingBatch, id: &ServiceId) -> bool {
    let changes = message.changes.iter().any(|change| change.service_id() == id);
    changes || message.broken.iter().any(|broken| broken.id == *id)
}

/// The path that only this version leads along.
fn path(version: u32) -> String {
    format!("/v{version}")
}
