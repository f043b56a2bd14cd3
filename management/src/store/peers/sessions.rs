//! Update streams of peers, and ephemeral peers that stay without one.

use meshgate_proto::{PeerId, UnixTime};

use super::{PeerRow, peer_row};
use crate::actor::Scope;
use crate::store::{Store, StoreError, Tx};

/// An update stream that has begun.
#[derive(Clone, Debug)]
pub struct PeerSession {
    /// Which one: a later stream has a greater number.
    pub session: i64,
    /// When.
    pub now: UnixTime,
    /// Where the peer calls from.
    pub connection_ip: String,
}

impl Store {
    /// Ephemeral peers that are away and were last seen before `cutoff`, longest away first.
    pub async fn stale_ephemeral_peers_anywhere(
        &self,
        cutoff: UnixTime,
        limit: u32,
    ) -> Result<Vec<PeerRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM peers WHERE ephemeral = TRUE AND connected = FALSE AND last_seen < $1 \
             ORDER BY last_seen LIMIT $2",
        )
        .bind(cutoff.as_nanos())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(peer_row).collect()
    }
}

impl Tx {
    /// Notes that a stream has begun, unless a newer one is noted already; tells whether it was noted.
    pub async fn connect_peer(
        &mut self,
        scope: &Scope,
        id: &PeerId,
        begun: &PeerSession,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE peers SET connected = TRUE, session_started_at = $3, last_seen = $4, connection_ip = $5 \
             WHERE account_id = $1 AND id = $2 AND session_started_at < $3",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .bind(begun.session)
        .bind(begun.now.as_nanos())
        .bind(&begun.connection_ip)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that a stream has ended, if it is the one noted; tells whether it was.
    pub async fn disconnect_peer(
        &mut self,
        scope: &Scope,
        id: &PeerId,
        session: i64,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE peers SET connected = FALSE, session_started_at = 0, last_seen = $4 \
             WHERE account_id = $1 AND id = $2 AND session_started_at = $3",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .bind(session)
        .bind(now.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes at start that nobody holds a stream yet.
    pub async fn disconnect_peers_anywhere(&mut self, now: UnixTime) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE peers SET connected = FALSE, session_started_at = 0, last_seen = $1 WHERE connected = TRUE",
        )
        .bind(now.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected())
    }

    /// Removes an ephemeral peer if it is still away and was last seen before `cutoff`; tells whether it was.
    pub async fn delete_stale_peer(
        &mut self,
        scope: &Scope,
        id: &PeerId,
        cutoff: UnixTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "DELETE FROM peers WHERE account_id = $1 AND id = $2 AND ephemeral = TRUE AND connected = FALSE \
             AND last_seen < $3",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .bind(cutoff.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
