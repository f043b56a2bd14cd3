//! Groups of peers: list and show.

use std::collections::HashMap;

use meshgate_proto::{GroupId, PeerId};

use crate::actor::Actor;
use crate::authz::{Module, Operation, require};
use crate::error::UseCaseError;
use crate::store::Store;
use crate::store::groups::GroupRow;

/// A group and who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: GroupRow,
    /// Its peers, oldest first.
    pub peers: Vec<NamedPeer>,
}

/// A peer by id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPeer {
    /// Its id.
    pub id: PeerId,
    /// Its name.
    pub name: String,
}

/// Lists the groups of the account.
pub async fn list(store: &Store, actor: &Actor) -> Result<Vec<GroupView>, UseCaseError> {
    require(actor, Module::Groups, Operation::Read)?;
    let groups = store.groups(actor.scope()).await?;
    let mut members: HashMap<GroupId, Vec<NamedPeer>> = HashMap::new();
    for member in store.named_group_peers(actor.scope()).await? {
        let peer = NamedPeer {
            id: member.peer_id,
            name: member.name,
        };
        members.entry(member.group_id).or_default().push(peer);
    }
    let view = |group: GroupRow| {
        let peers = members.remove(&group.id).unwrap_or_default();
        GroupView { group, peers }
    };
    Ok(groups.into_iter().map(view).collect())
}

/// Lists the one group of that name.
pub async fn by_name(store: &Store, actor: &Actor, name: &str) -> Result<GroupView, UseCaseError> {
    require(actor, Module::Groups, Operation::Read)?;
    let group = store.group_by_name(actor.scope(), name).await?;
    with_peers(store, actor, group).await
}

/// Shows one group.
pub async fn get(store: &Store, actor: &Actor, id: &GroupId) -> Result<GroupView, UseCaseError> {
    require(actor, Module::Groups, Operation::Read)?;
    let group = store.group(actor.scope(), id).await?;
    with_peers(store, actor, group).await
}

async fn with_peers(
    store: &Store,
    actor: &Actor,
    group: Option<GroupRow>,
) -> Result<GroupView, UseCaseError> {
    let group = group.ok_or_else(|| UseCaseError::not_found("group"))?;
    let members = store.named_peers_of_group(actor.scope(), &group.id).await?;
    let peers = members
        .into_iter()
        .map(|member| NamedPeer {
            id: member.peer_id,
            name: member.name,
        })
        .collect();
    Ok(GroupView { group, peers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    #[tokio::test]
    async fn a_group_shows_its_peers_by_name() {
        let world = World::new().await;
        let account = world.account().await;
        let store = &world.state.store;
        let peer = world.peer(&account, "peer1", 7).await;
        let expected = [NamedPeer {
            id: peer,
            name: "peer1".to_owned(),
        }];

        let listed = list(store, &account.actor()).await.unwrap();
        let named = by_name(store, &account.actor(), "All").await.unwrap();
        let shown = get(store, &account.actor(), &account.all).await.unwrap();

        assert_eq!(listed, std::slice::from_ref(&shown));
        assert_eq!(named, shown);
        assert_eq!(shown.peers, expected);
    }

    #[tokio::test]
    async fn groups_of_others_are_not_there() {
        let world = World::new().await;
        let (account, other) = (world.account().await, world.account().await);

        let error = get(&world.state.store, &other.actor(), &account.all)
            .await
            .unwrap_err();

        assert_eq!(error.to_string(), "group not found");
    }
}
