//! Deletes ephemeral peers, those of proxies among them, that have been away for a while.
//!
//! Each pass looks at the store anew, so a peer that was still there once is not forgotten later.

use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::UnixTime;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::actor::Scope;
use crate::changes::Change;
use crate::state::State;
use crate::store::StoreError;

/// How long an ephemeral peer may be away.
pub const MAX_ABSENCE: Duration = Duration::from_mins(10);
/// Time between two passes.
const INTERVAL: Duration = Duration::from_mins(1);
/// Peers deleted in one pass; the rest waits for the next.
const BATCH: u32 = 500;

/// Notes that nobody holds a stream yet. Once, before anybody is let in: streams of a process that was killed
/// are stored as if they still ran.
pub async fn forget_streams(state: &State) -> Result<(), StoreError> {
    let mut tx = state.store.begin().await?;
    tx.disconnect_peers_anywhere(state.clock.now()).await?;
    tx.commit().await
}

/// Deletes stale peers until it is told to stop. Whoever was away at the start gets the whole time to return.
pub async fn run(state: Arc<State>, stopping: CancellationToken) {
    let mut interval = interval_at(Instant::now() + MAX_ABSENCE, INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = interval.tick() => {}
        }
        let cutoff = state.clock.now().saturating_sub(MAX_ABSENCE);
        if let Err(error) = delete_stale(&state, cutoff).await {
            warn!(%error, "Ephemeral peers could not be cleaned up");
        }
    }
}

/// Deletes ephemeral peers that were last seen before `cutoff`; tells how many.
pub async fn delete_stale(state: &State, cutoff: UnixTime) -> Result<usize, StoreError> {
    let mut deleted = 0;
    for peer in state.store.stale_ephemeral_peers_anywhere(cutoff, BATCH).await? {
        let scope = Scope::authenticated(peer.account_id.clone());
        let mut tx = state.store.begin().await?;
        if !tx.delete_stale_peer(&scope, &peer.id, cutoff).await? {
            continue;
        }
        tx.commit().await?;
        deleted += 1;
        info!(peer.id = %peer.id, peer.key = %peer.key.short(), "Ephemeral peer stayed away and was deleted");
        state.changes.publish(Change::PeerRemoved {
            account: peer.account_id,
            peer: peer.id,
            key: peer.key,
        });
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use meshgate_proto::WgPrivateKey;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::peers::presence::Presence;
    use crate::store::peers::PeerSession;
    use crate::test_support::World;

    #[tokio::test]
    async fn peers_of_proxies_go_ten_minutes_after_their_stream() {
        let world = World::new().await;
        let account = world.account().await;
        let key = WgPrivateKey::generate().public();
        let id = world.register_proxy(&account, key, "c").await.unwrap();
        let row = world
            .state
            .store
            .peer(&account.scope, &id)
            .await
            .unwrap()
            .unwrap();
        let tracker = TaskTracker::new();
        let presence = Presence::begin(&world.state, &tracker, &row, None).await.unwrap();
        let pass = || async {
            let cutoff = world.state.clock.now().saturating_sub(MAX_ABSENCE);
            delete_stale(&world.state, cutoff).await.unwrap()
        };

        world.clock.advance(MAX_ABSENCE * 2);
        assert_eq!(pass().await, 0, "it is connected");
        drop(presence);
        tracker.close();
        tracker.wait().await;
        assert_eq!(pass().await, 0, "it has just gone");
        world.clock.advance(MAX_ABSENCE + Duration::from_secs(1));
        assert_eq!(pass().await, 1);
        assert_eq!(world.state.store.peer(&account.scope, &id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_stream_of_a_killed_process_counts_as_ended_at_the_next_start() {
        let world = World::new().await;
        let account = world.account().await;
        let key = WgPrivateKey::generate().public();
        let id = world.register_proxy(&account, key, "c").await.unwrap();
        let begun = PeerSession {
            session: 1,
            now: world.now(),
            connection_ip: String::new(),
        };
        let mut tx = world.state.store.begin().await.unwrap();
        assert!(tx.connect_peer(&account.scope, &id, &begun).await.unwrap());
        tx.commit().await.unwrap();

        world.clock.advance(MAX_ABSENCE * 2);
        forget_streams(&world.state).await.unwrap();

        let row = world
            .state
            .store
            .peer(&account.scope, &id)
            .await
            .unwrap()
            .unwrap();
        assert!(!row.connected);
        assert_eq!(row.last_seen, world.now());
    }
}
