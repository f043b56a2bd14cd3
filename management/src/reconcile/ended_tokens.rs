//! Takes proxies out of the mesh whose token has expired, or was revoked from the command line.
//!
//! A revocation over the API removes the peers itself. Here is looked for the others: nobody tells of them.

use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::UnixTime;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::changes::Changes;
use crate::state::State;
use crate::store::{Store, StoreError};
use crate::tokens::tell_revoked;

/// Time between two looks, so the longest that a proxy stays without a token.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks until it is told to stop.
pub async fn run(state: Arc<State>, stopping: CancellationToken) {
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Err(error) = expel(&state.store, &state.changes, state.clock.now()).await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "Proxies without a valid token could not be removed");
        }
    }
}

/// Removes the peers of tokens that open nothing at `now`.
pub async fn expel(store: &Store, changes: &Changes, now: UnixTime) -> Result<(), StoreError> {
    for token in store.ended_proxy_tokens_with_peers_anywhere(now).await? {
        let mut tx = store.begin().await?;
        let removed = tx.delete_peers_of_proxy_token_anywhere(&token).await?;
        tx.commit().await?;
        tell_revoked(changes, &token, removed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use meshgate_proto::WgPrivateKey;

    use super::*;
    use crate::changes::Change;
    use crate::test_support::World;

    #[tokio::test]
    async fn peers_go_with_the_token_they_are_here_by() {
        let world = World::new().await;
        let account = world.account().await;
        let state = &world.state;
        let keys = [(); 3].map(|()| WgPrivateKey::generate().public());
        let minute = Duration::from_mins(1);
        let (expiring, revoked, good) = (
            world.proxy_token(Some(minute)).await,
            world.proxy_token(None).await,
            world.proxy_token(None).await,
        );
        for (key, token) in keys.into_iter().zip([&expiring, &revoked, &good]) {
            world.register_proxy_by(&account, key, "c", token).await.unwrap();
        }
        let mut news = state.changes.subscribe();
        let here = async || {
            let peers = state.store.peers(&account.scope).await.unwrap();
            peers.into_iter().map(|peer| peer.key).collect::<Vec<_>>()
        };

        expel(&state.store, &state.changes, world.now()).await.unwrap();
        assert_eq!(here().await.len(), 3);
        assert!(news.try_recv().is_err());

        let mut tx = state.store.begin().await.unwrap();
        assert!(tx.revoke_proxy_token_anywhere(&revoked).await.unwrap());
        tx.commit().await.unwrap();
        expel(&state.store, &state.changes, world.now()).await.unwrap();
        assert!(!here().await.contains(&keys[1]));
        assert_eq!(news.try_recv(), Ok(Change::ProxyTokenRevoked { token: revoked }));
        assert!(matches!(news.try_recv(), Ok(Change::PeerRemoved { key, .. }) if key == keys[1]));

        world.clock.advance(minute);
        expel(&state.store, &state.changes, world.now()).await.unwrap();
        assert_eq!(here().await, [keys[2]]);
        let refused = world.register_proxy_by(&account, keys[0], "c", &expiring).await;
        assert!(refused.is_err(), "the token opens nothing any more");
    }
}
