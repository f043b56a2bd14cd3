//! Groups of peers, and who is in them.

use std::collections::HashMap;

use meshgate_proto::{AccountId, GroupId, PeerId, UnixTime};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text};
use crate::store::{Store, StoreError, Tx};

/// The group every peer is in, except the tunnels of proxies.
pub const ALL: &str = "All";

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Its id.
    pub id: GroupId,
    /// Its account.
    pub account_id: AccountId,
    /// Its name.
    pub name: String,
    /// `api`, `jwt` or `integration`.
    pub issued: String,
    /// Resources in it.
    pub resources: Vec<ResourceRef>,
    /// When it was made.
    pub created_at: UnixTime,
}

/// A resource by id and kind, as groups and policies name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceRef {
    /// Its id.
    pub id: String,
    /// `host`, `subnet`, `domain` or `peer`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A peer in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPeerRow {
    /// The group.
    pub group_id: GroupId,
    /// The peer.
    pub peer_id: PeerId,
}

/// A peer in a group, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGroupPeerRow {
    /// The group.
    pub group_id: GroupId,
    /// The peer.
    pub peer_id: PeerId,
    /// Its name.
    pub name: String,
}

fn named_group_peer_row(row: &SqliteRow) -> Result<NamedGroupPeerRow, StoreError> {
    let row = Columns(row);
    Ok(NamedGroupPeerRow {
        group_id: row.id("group_id")?,
        peer_id: row.id("peer_id")?,
        name: row.text("name")?,
    })
}

fn group_row(row: &SqliteRow) -> Result<GroupRow, StoreError> {
    let row = Columns(row);
    Ok(GroupRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        name: row.text("name")?,
        issued: row.text("issued")?,
        resources: row.json("resources")?,
        created_at: row.time("created_at")?,
    })
}

fn group_peer_row(row: &SqliteRow) -> Result<GroupPeerRow, StoreError> {
    let row = Columns(row);
    Ok(GroupPeerRow {
        group_id: row.id("group_id")?,
        peer_id: row.id("peer_id")?,
    })
}

impl Store {
    /// A group by id.
    pub async fn group(&self, scope: &Scope, id: &GroupId) -> Result<Option<GroupRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM groups WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(group_row).transpose()
    }

    /// The oldest group of that name.
    pub async fn group_by_name(&self, scope: &Scope, name: &str) -> Result<Option<GroupRow>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM groups WHERE account_id = $1 AND name = $2 ORDER BY created_at, id LIMIT 1",
        )
        .bind(scope.account().as_str())
        .bind(name)
        .fetch_optional(self.reader())
        .await?;
        row.as_ref().map(group_row).transpose()
    }

    /// All groups, oldest first.
    pub async fn groups(&self, scope: &Scope) -> Result<Vec<GroupRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM groups WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(group_row).collect()
    }

    /// Who is in which group, all of it.
    pub async fn group_peers(&self, scope: &Scope) -> Result<Vec<GroupPeerRow>, StoreError> {
        let rows = sqlx::query("SELECT group_id, peer_id FROM group_peers WHERE account_id = $1")
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(group_peer_row).collect()
    }

    /// Who is in which group, by name, all of it; older peers first.
    pub async fn named_group_peers(&self, scope: &Scope) -> Result<Vec<NamedGroupPeerRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT group_peers.group_id, group_peers.peer_id, peers.name FROM group_peers \
             JOIN peers ON peers.id = group_peers.peer_id WHERE group_peers.account_id = $1 \
             ORDER BY peers.created_at, peers.id",
        )
        .bind(scope.account().as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(named_group_peer_row).collect()
    }

    /// Who is in a group, by name; older peers first.
    pub async fn named_peers_of_group(
        &self,
        scope: &Scope,
        group: &GroupId,
    ) -> Result<Vec<NamedGroupPeerRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT group_peers.group_id, group_peers.peer_id, peers.name FROM group_peers \
             JOIN peers ON peers.id = group_peers.peer_id \
             WHERE group_peers.account_id = $1 AND group_peers.group_id = $2 ORDER BY peers.created_at, peers.id",
        )
        .bind(scope.account().as_str())
        .bind(group.as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(named_group_peer_row).collect()
    }

    /// How many peers are in each group; groups without any are missing.
    pub async fn group_sizes(&self, scope: &Scope) -> Result<HashMap<GroupId, u64>, StoreError> {
        let rows = sqlx::query(
            "SELECT group_id, COUNT(*) AS peers FROM group_peers WHERE account_id = $1 GROUP BY group_id",
        )
        .bind(scope.account().as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| Ok((Columns(row).id("group_id")?, Columns(row).number("peers")?)))
            .collect()
    }

    /// The groups a peer is in.
    pub async fn groups_of_peer(&self, scope: &Scope, peer: &PeerId) -> Result<Vec<GroupId>, StoreError> {
        let rows = sqlx::query("SELECT group_id FROM group_peers WHERE account_id = $1 AND peer_id = $2")
            .bind(scope.account().as_str())
            .bind(peer.as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(|row| Columns(row).id("group_id")).collect()
    }

    /// The peers in a group.
    pub async fn peers_of_group(&self, scope: &Scope, group: &GroupId) -> Result<Vec<PeerId>, StoreError> {
        let rows = sqlx::query("SELECT peer_id FROM group_peers WHERE account_id = $1 AND group_id = $2")
            .bind(scope.account().as_str())
            .bind(group.as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(|row| Columns(row).id("peer_id")).collect()
    }
}

impl Tx {
    /// A group by id, as this transaction sees it.
    pub async fn group(&mut self, scope: &Scope, id: &GroupId) -> Result<Option<GroupRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM groups WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(group_row).transpose()
    }

    /// The oldest group of that name, as this transaction sees it.
    pub async fn group_by_name(&mut self, scope: &Scope, name: &str) -> Result<Option<GroupRow>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM groups WHERE account_id = $1 AND name = $2 ORDER BY created_at, id LIMIT 1",
        )
        .bind(scope.account().as_str())
        .bind(name)
        .fetch_optional(self.conn())
        .await?;
        row.as_ref().map(group_row).transpose()
    }

    /// Keeps a new group.
    pub async fn insert_group(&mut self, group: &GroupRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO groups (id, account_id, name, issued, resources, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(group.id.as_str())
        .bind(group.account_id.as_str())
        .bind(&group.name)
        .bind(&group.issued)
        .bind(json_text(&group.resources))
        .bind(group.created_at.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Puts a peer into a group; it may be there already.
    pub async fn add_group_peer(
        &mut self,
        scope: &Scope,
        group: &GroupId,
        peer: &PeerId,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO group_peers (account_id, group_id, peer_id) VALUES ($1, $2, $3) \
             ON CONFLICT (group_id, peer_id) DO NOTHING",
        )
        .bind(scope.account().as_str())
        .bind(group.as_str())
        .bind(peer.as_str())
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
