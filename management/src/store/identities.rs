//! Look-ups behind a session: peers by overlay address, groups by name.

use std::net::IpAddr;

use meshgate_proto::PeerId;

use crate::actor::Scope;
use crate::session::SessionGroup;
use crate::store::columns::Columns;
use crate::store::peers::{PeerRow, peer_row};
use crate::store::{Store, StoreError};

impl Store {
    /// The peer with an overlay address of either family.
    pub async fn peer_by_address(
        &self,
        scope: &Scope,
        address: IpAddr,
    ) -> Result<Option<PeerRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM peers WHERE account_id = $1 AND (ip = $2 OR ipv6 = $2)")
            .bind(scope.account().as_str())
            .bind(address.to_string())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(peer_row).transpose()
    }

    /// The groups a peer is in, with their names, oldest first.
    pub async fn named_groups_of_peer(
        &self,
        scope: &Scope,
        peer: &PeerId,
    ) -> Result<Vec<SessionGroup>, StoreError> {
        let rows = sqlx::query(
            "SELECT groups.id, groups.name FROM groups \
             JOIN group_peers ON group_peers.group_id = groups.id \
             WHERE group_peers.account_id = $1 AND group_peers.peer_id = $2 ORDER BY groups.created_at, groups.id",
        )
        .bind(scope.account().as_str())
        .bind(peer.as_str())
        .fetch_all(self.reader())
        .await?;
        let group = |row| {
            let row = Columns(row);
            Ok(SessionGroup {
                id: row.id("id")?,
                name: row.text("name")?,
            })
        };
        rows.iter().map(group).collect()
    }
}
