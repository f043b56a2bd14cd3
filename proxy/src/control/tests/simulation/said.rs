//! What management says of services, and a plain account of what a proxy was told.

use std::collections::{BTreeMap, BTreeSet};

use meshgate_proto::pb::management as pb;
use meshgate_proto::{
    AccountId, DomainName, MappingChange, PathMapping, Removal, Secret, ServiceId, ServiceMode, TargetOptions,
};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::routing::tests::mapping;
use crate::routing::{Route, RouteState, Snapshot};

/// Hosts that services share: some claim the same.
const HOSTS: u32 = 10;

/// What management says of a service.
#[derive(Clone, Debug)]
pub(super) struct Said {
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
    /// A mapping that leads nowhere.
    Lost,
    /// A mapping of a mode that nobody knows.
    Broken,
    /// A change of a kind that nobody knows.
    Strange,
}

impl Said {
    pub(super) fn draw(rng: &mut SmallRng, old: Option<&Self>, version: u32) -> Self {
        let domain = match old {
            Some(old) if rng.random_bool(0.7) => old.domain.clone(),
            _ => DomainName::new(&format!("h{}.test", rng.random_range(0..HOSTS))).unwrap(),
        };
        let kind = match rng.random_range(0..12) {
            0 => Kind::Unservable,
            1 => Kind::Broken,
            2 => Kind::Strange,
            3 => Kind::Lost,
            _ => Kind::Good,
        };
        Self {
            domain,
            account: AccountId::new(format!("a{}", rng.random_range(0..3))),
            version,
            kind,
        }
    }

    /// As it stands in a message; the one-time token is fresh in every one.
    pub(super) fn encode(&self, id: &ServiceId, token: u64) -> pb::ProxyMapping {
        let mut mapping = mapping(id.as_str(), self.domain.as_str());
        mapping.account_id = self.account.clone();
        mapping.auth_token = Secret::from(format!("token{token}"));
        let scheme = if self.kind == Kind::Lost { "gopher" } else { "http" };
        mapping.paths.push(PathMapping {
            path: path(self.version),
            target: format!("{scheme}://100.64.0.1:8080/"),
            options: TargetOptions::default(),
        });
        if self.kind == Kind::Unservable {
            mapping.mode = ServiceMode::Udp;
        }
        let change = if token.is_multiple_of(2) {
            MappingChange::Created(Box::new(mapping))
        } else {
            MappingChange::Modified(Box::new(mapping))
        };
        let mut message: pb::ProxyMapping = change.into();
        match self.kind {
            Kind::Broken => message.mode = path(self.version),
            Kind::Strange => message.r#type = strange(self.version),
            Kind::Good | Kind::Unservable | Kind::Lost => {}
        }
        message
    }

    fn is(&self, route: &Route) -> bool {
        let same = route.domain == self.domain && route.account_id == self.account;
        let leads = |path: &str| route.target(path).is_some_and(|(_, prefix)| prefix == path);
        same && match (self.kind, &route.state) {
            (Kind::Good, RouteState::Ready) => leads(&path(self.version)),
            (Kind::Broken, RouteState::Unavailable(reason)) => reason.contains(&path(self.version)),
            (Kind::Strange, RouteState::Unavailable(reason)) => {
                reason.contains(&strange(self.version).to_string())
            }
            (Kind::Lost, RouteState::Unavailable(_)) => true,
            (Kind::Good | Kind::Broken | Kind::Strange | Kind::Lost | Kind::Unservable, _) => false,
        }
    }
}

/// A removal as it stands in a message.
pub(super) fn removal(id: &ServiceId) -> pb::ProxyMapping {
    let removal = Removal {
        id: id.clone(),
        account_id: AccountId::new("a0"),
        domain: None,
    };
    MappingChange::Removed(removal).into()
}

/// What a message says: a service without words is removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) services: BTreeMap<ServiceId, Option<Said>>,
    pub(super) complete: bool,
}

/// What a proxy was told: the same as the code under test keeps, in the plainest way.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) services: BTreeMap<ServiceId, Said>,
    seen: Option<BTreeSet<ServiceId>>,
}

impl Told {
    /// A stream begins; the one before may have ended in its snapshot.
    pub(super) fn begin(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    pub(super) fn take(&mut self, message: Message) {
        for (id, said) in message.services {
            let Some(said) = said else {
                self.services.remove(&id);
                continue;
            };
            if let Some(seen) = &mut self.seen {
                seen.insert(id.clone());
            }
            self.services.insert(id, said);
        }
        if message.complete
            && let Some(seen) = self.seen.take()
        {
            self.services.retain(|id, _| seen.contains(id));
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.seen.is_none()
    }

    /// The routes are what was told, no more and no less.
    pub(super) fn check(&self, snapshot: &Snapshot) {
        for route in snapshot.routes() {
            assert!(self.says(route), "nobody says {route:?}");
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

    /// The route is what was last said of its service.
    pub(super) fn says(&self, route: &Route) -> bool {
        let said = self.services.get(&route.service_id);
        said.is_some_and(|said| said.is(route))
    }
}

/// The path that only this version leads along.
fn path(version: u32) -> String {
    format!("/v{version}")
}

/// A kind of change that is this version's own.
fn strange(version: u32) -> i32 {
    i32::try_from(version).unwrap() + 1000
}
