//! Peers of proxies, and the tokens they are here by.

use meshgate_proto::{AccountId, PeerId, TokenId, UnixTime, WgPublicKey};
use sqlx::Row as _;

use crate::actor::Scope;
use crate::store::columns::Columns;
use crate::store::{Store, StoreError, Tx};

/// A peer that was removed, as others have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedPeer {
    /// Its account.
    pub account: AccountId,
    /// The peer.
    pub peer: PeerId,
    /// The key it had.
    pub key: WgPublicKey,
}

impl Store {
    /// Proxy tokens that open nothing any more although peers are here by them.
    pub async fn ended_proxy_tokens_with_peers_anywhere(
        &self,
        now: UnixTime,
    ) -> Result<Vec<TokenId>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM proxy_access_tokens AS token WHERE (revoked = TRUE OR expires_at <= $1) \
             AND EXISTS (SELECT 1 FROM peers WHERE peers.proxy_token_id = token.id)",
        )
        .bind(now.as_nanos())
        .fetch_all(self.reader())
        .await?;
        rows.iter()
            .map(|row| Ok(TokenId::new(row.try_get::<String, _>("id")?)))
            .collect()
    }
}

impl Tx {
    /// Whether a proxy token opens something, as this transaction sees it.
    pub async fn proxy_token_opens_anywhere(
        &mut self,
        token: &TokenId,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM proxy_access_tokens \
             WHERE id = $1 AND revoked = FALSE AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(token.as_str())
        .bind(now.as_nanos())
        .fetch_optional(self.conn())
        .await?;
        Ok(found.is_some())
    }

    /// Notes of which cluster the peer of a proxy is, and by which token.
    pub async fn assign_proxy_peer(
        &mut self,
        scope: &Scope,
        id: &PeerId,
        cluster: &str,
        token: &TokenId,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE peers SET proxy_cluster = $3, proxy_token_id = $4 \
             WHERE account_id = $1 AND id = $2 AND proxy_embedded = TRUE",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .bind(cluster)
        .bind(token.as_str())
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Removes the peers that are here by a proxy token, whichever account they are in.
    pub async fn delete_peers_of_proxy_token_anywhere(
        &mut self,
        token: &TokenId,
    ) -> Result<Vec<RemovedPeer>, StoreError> {
        let rows = sqlx::query("DELETE FROM peers WHERE proxy_token_id = $1 RETURNING account_id, id, key")
            .bind(token.as_str())
            .fetch_all(self.conn())
            .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(RemovedPeer {
                    account: row.id("account_id")?,
                    peer: row.id("id")?,
                    key: row.parsed("key", |text| text.parse().ok())?,
                })
            })
            .collect()
    }
}
