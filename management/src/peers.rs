//! Peers: list, show, delete. How they join is in [`registration`].

pub(crate) mod presence;
pub mod registration;

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr as _;

use meshgate_proto::{GroupId, PeerId};

use crate::actor::Actor;
use crate::authz::{Module, Operation, require};
use crate::changes::{Change, Changes};
use crate::error::UseCaseError;
use crate::store::Store;
use crate::store::groups::GroupRow;
use crate::store::peers::PeerRow;

/// A peer as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The peer.
    pub peer: PeerRow,
    /// Its whole name in the overlay.
    pub fqdn: String,
    /// The groups it is in, oldest first.
    pub groups: Vec<CountedGroup>,
}

/// A group and how many are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedGroup {
    /// The group.
    pub group: GroupRow,
    /// How many peers are in it.
    pub peers: u64,
}

/// Which peers to list. What is empty does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFilter {
    /// Those of exactly this name.
    pub name: String,
    /// The one with exactly this overlay address.
    pub ip: String,
}

/// Lists peers; the tunnels of proxies are not among them.
///
/// People who may not read peers see their own, or none where the account says so.
pub async fn list(
    store: &Store,
    dns_domain: &str,
    actor: &Actor,
    filter: &PeerFilter,
) -> Result<Vec<PeerView>, UseCaseError> {
    let all = require(actor, Module::Peers, Operation::Read).is_ok();
    let account = store.account(actor.scope()).await?;
    let account = account.ok_or_else(|| UseCaseError::not_found("account"))?;
    if !all && account.settings.regular_users_view_blocked {
        return Ok(Vec::new());
    }
    let domain = effective_domain(&account.settings.dns_domain, dns_domain);
    let groups = Groups::load(store, actor).await?;
    let mut memberships: HashMap<PeerId, Vec<GroupId>> = HashMap::new();
    for member in store.group_peers(actor.scope()).await? {
        memberships
            .entry(member.peer_id)
            .or_default()
            .push(member.group_id);
    }
    let peers = store.peers(actor.scope()).await?;
    let shown = peers.into_iter().filter(|peer| {
        let visible = all || peer.user_id.as_ref() == Some(actor.user());
        visible && !peer.proxy_embedded && filter.matches(peer)
    });
    Ok(shown
        .map(|peer| {
            let member_of = memberships.remove(&peer.id).unwrap_or_default();
            groups.view(peer, &member_of, domain)
        })
        .collect())
}

/// Shows one peer. The tunnels of proxies are not shown.
pub async fn get(
    store: &Store,
    dns_domain: &str,
    actor: &Actor,
    id: &PeerId,
) -> Result<PeerView, UseCaseError> {
    require(actor, Module::Peers, Operation::Read)?;
    let peer = store.peer(actor.scope(), id).await?.ok_or_else(not_found)?;
    if peer.proxy_embedded {
        return Err(UseCaseError::invalid("not allowed to read peer"));
    }
    let account = store.account(actor.scope()).await?;
    let account = account.ok_or_else(|| UseCaseError::not_found("account"))?;
    let domain = effective_domain(&account.settings.dns_domain, dns_domain);
    let groups = Groups::load(store, actor).await?;
    let member_of = store.groups_of_peer(actor.scope(), id).await?;
    Ok(groups.view(peer, &member_of, domain))
}

/// Removes a peer, unless a service leads to it.
pub async fn delete(
    store: &Store,
    changes: &Changes,
    actor: &Actor,
    id: &PeerId,
) -> Result<(), UseCaseError> {
    require(actor, Module::Peers, Operation::Delete)?;
    let mut tx = store.begin().await?;
    let peer = tx.peer(actor.scope(), id).await?.ok_or_else(not_found)?;
    if let Some(service) = tx.service_using_peer(actor.scope(), id).await? {
        let text = format!("peer {id} is in use by proxy {service}");
        return Err(UseCaseError::Precondition(text));
    }
    tx.delete_peer(actor.scope(), id).await?;
    tx.commit().await?;
    changes.publish(Change::PeerRemoved {
        account: actor.scope().account().clone(),
        peer: peer.id,
        key: peer.key,
    });
    Ok(())
}

impl PeerFilter {
    fn matches(&self, peer: &PeerRow) -> bool {
        let name = self.name.is_empty() || self.name == peer.name;
        let ip = self.ip.is_empty()
            || IpAddr::from_str(&self.ip).is_ok_and(|ip| {
                ip == IpAddr::V4(peer.ip) || peer.ipv6.is_some_and(|v6| ip == IpAddr::V6(v6))
            });
        name && ip
    }
}

/// The groups of an account, in order, with the numbers of their peers.
struct Groups(Vec<CountedGroup>);

impl Groups {
    async fn load(store: &Store, actor: &Actor) -> Result<Self, UseCaseError> {
        let mut counts = store.group_sizes(actor.scope()).await?;
        let groups = store.groups(actor.scope()).await?;
        let counted = groups.into_iter().map(|group| CountedGroup {
            peers: counts.remove(&group.id).unwrap_or(0),
            group,
        });
        Ok(Self(counted.collect()))
    }

    fn view(&self, peer: PeerRow, member_of: &[GroupId], domain: &str) -> PeerView {
        let groups = self
            .0
            .iter()
            .filter(|counted| member_of.contains(&counted.group.id));
        PeerView {
            fqdn: format!("{}.{domain}", peer.dns_label),
            groups: groups.cloned().collect(),
            peer,
        }
    }
}

fn effective_domain<'a>(account: &'a str, server: &'a str) -> &'a str {
    if account.is_empty() { server } else { account }
}

fn not_found() -> UseCaseError {
    UseCaseError::not_found("peer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Role;
    use crate::test_support::World;

    #[tokio::test]
    async fn filters_are_exact() {
        let world = World::new().await;
        let account = world.account().await;
        let first = world.peer(&account, "peer1", 7).await;
        world.peer(&account, "peer10", 8).await;
        let list = async |name: &str, ip: &str| {
            let filter = PeerFilter {
                name: name.to_owned(),
                ip: ip.to_owned(),
            };
            let peers = list(&world.state.store, "net.test", &account.actor(), &filter).await;
            peers
                .unwrap()
                .into_iter()
                .map(|view| view.peer.id)
                .collect::<Vec<_>>()
        };

        assert_eq!(list("", "").await.len(), 2);
        assert_eq!(list("peer1", "").await, std::slice::from_ref(&first));
        assert_eq!(list("", "100.64.0.7").await, std::slice::from_ref(&first));
        assert!(list("peer", "").await.is_empty());
        assert!(list("", "nonsense").await.is_empty());
    }

    #[tokio::test]
    async fn a_peer_knows_its_name_and_its_groups() {
        let world = World::new().await;
        let account = world.account().await;
        let id = world.peer(&account, "peer1", 7).await;
        world.peer(&account, "peer2", 8).await;

        let view = get(&world.state.store, "net.test", &account.actor(), &id)
            .await
            .unwrap();

        assert_eq!(view.fqdn, "peer1.net.test");
        assert_eq!(view.groups.len(), 1);
        assert_eq!(view.groups[0].peers, 2);
    }

    #[tokio::test]
    async fn peers_of_others_are_not_there() {
        let world = World::new().await;
        let (account, other) = (world.account().await, world.account().await);
        let id = world.peer(&account, "peer1", 7).await;
        let state = &world.state;

        let shown = get(&state.store, "net.test", &other.actor(), &id).await;
        let deleted = delete(&state.store, &state.changes, &other.actor(), &id).await;

        assert!(matches!(shown, Err(UseCaseError::NotFound(_))));
        assert!(matches!(deleted, Err(UseCaseError::NotFound(_))));
        assert!(state.store.peer(&account.scope, &id).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_deleted_peer_is_told_with_its_key() {
        let world = World::new().await;
        let account = world.account().await;
        let id = world.peer(&account, "peer1", 7).await;
        let state = &world.state;
        let key = state.store.peer(&account.scope, &id).await.unwrap().unwrap().key;
        let mut news = state.changes.subscribe();

        delete(&state.store, &state.changes, &account.actor(), &id)
            .await
            .unwrap();

        let expected = Change::PeerRemoved {
            account: account.scope.account().clone(),
            peer: id,
            key,
        };
        assert_eq!(news.try_recv().unwrap(), expected);
    }

    #[tokio::test]
    async fn people_without_permission_see_nothing() {
        let world = World::new().await;
        let account = world.account().await;
        let id = world.peer(&account, "peer1", 7).await;
        let user = Actor::authenticated(account.scope.clone(), account.owner.clone(), Role::User, false);
        let store = &world.state.store;

        let listed = list(store, "net.test", &user, &PeerFilter::default())
            .await
            .unwrap();
        let shown = get(store, "net.test", &user, &id).await;

        assert!(listed.is_empty());
        assert!(matches!(shown, Err(UseCaseError::Forbidden(_))));
    }
}
