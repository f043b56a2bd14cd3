//! Tokens that opened a moment ago, so that a flood of calls is not a flood of look-ups.
//!
//! Only tokens that exist are remembered, for [`REMEMBER`] at most, which is how long one that another process
//! revoked may go on. A revocation of this process is heard before the next call is let in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::changes::{Change, Changes};
use crate::store::proxy_tokens::ProxyTokenRow;
use crate::store::{Store, StoreError};

/// How long a token is remembered.
const REMEMBER: Duration = Duration::from_secs(2);
/// Tokens that are remembered.
const CAPACITY: u64 = 4096;

#[derive(Debug)]
pub(super) struct KnownTokens {
    /// By hash.
    rows: Cache<String, ProxyTokenRow>,
    news: Mutex<Receiver<Change>>,
    /// Goes up with each revocation: what was read before one is not remembered after it.
    revocations: AtomicU64,
}

impl KnownTokens {
    pub(super) fn new(changes: &Changes) -> Self {
        Self {
            rows: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(REMEMBER)
                .build(),
            news: Mutex::new(changes.subscribe()),
            revocations: AtomicU64::new(0),
        }
    }

    /// The token with this hash, valid or not.
    pub(super) async fn find(
        &self,
        store: &Store,
        hash: String,
    ) -> Result<Option<ProxyTokenRow>, StoreError> {
        let before = self.forget_revoked(&mut self.news.lock());
        if let Some(row) = self.rows.get(&hash) {
            return Ok(Some(row));
        }
        let row = store.proxy_token_by_hash_anywhere(&hash).await?;
        if let Some(row) = row.as_ref().filter(|row| !row.revoked) {
            // Held over the insert, so that a revocation comes before the check or after the insert.
            let mut news = self.news.lock();
            if self.forget_revoked(&mut news) == before {
                self.rows.insert(hash, row.clone());
            }
        }
        Ok(row)
    }

    /// Forgets all when one was revoked, which is rare; tells how often that was so.
    fn forget_revoked(&self, news: &mut Receiver<Change>) -> u64 {
        loop {
            match news.try_recv() {
                Ok(Change::ProxyTokenRevoked { .. }) | Err(TryRecvError::Lagged(_)) => {
                    self.revocations.fetch_add(1, Ordering::Relaxed);
                    self.rows.invalidate_all();
                }
                Ok(_) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => {
                    return self.revocations.load(Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meshgate_proto::TokenId;

    use super::*;
    use crate::store::Tx;
    use crate::test_support::World;

    async fn write(world: &World, change: impl AsyncFnOnce(&mut Tx)) {
        let mut tx = world.state.store.begin().await.unwrap();
        change(&mut tx).await;
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_token_is_looked_up_once_until_one_is_revoked() {
        let world = World::new().await;
        let (store, changes) = (&world.state.store, &world.state.changes);
        let known = KnownTokens::new(changes);
        let row = ProxyTokenRow {
            id: TokenId::new("t"),
            name: "t".to_owned(),
            hashed_token: "hash".to_owned(),
            account_id: None,
            expires_at: None,
            created_by: "CLI".to_owned(),
            created_at: world.now(),
            last_used: None,
            revoked: false,
        };
        let find = async || known.find(store, "hash".to_owned()).await.unwrap();

        assert_eq!(find().await, None);
        write(&world, async |tx| tx.insert_proxy_token(&row).await.unwrap()).await;
        assert_eq!(find().await, Some(row.clone()), "strangers are not remembered");
        write(&world, async |tx| {
            tx.revoke_proxy_token_anywhere(&row.id).await.unwrap();
        })
        .await;
        assert!(known.rows.contains_key("hash"));
        changes.publish(Change::ProxyTokenRevoked { token: row.id });

        assert!(find().await.unwrap().revoked);
        assert!(!known.rows.contains_key("hash"));
    }
}
