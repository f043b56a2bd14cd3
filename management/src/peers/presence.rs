//! Which peers hold an update stream, as the store shows it.
//!
//! Streams of one peer may overlap when it reconnects. Each has a number, greater than those before; only the
//! stream whose number is stored may say that the peer has gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use meshgate_proto::{PeerId, UnixTime};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::actor::Scope;
use crate::state::State;
use crate::store::StoreError;
use crate::store::peers::{PeerRow, PeerSession};

static LAST_SESSION: AtomicI64 = AtomicI64::new(0);

/// A stream that is noted in the store until this is dropped.
pub(crate) struct Presence {
    state: Arc<State>,
    tracker: TaskTracker,
    scope: Scope,
    peer: PeerId,
    session: i64,
}

impl Presence {
    /// Notes that a stream of the peer has begun.
    pub(crate) async fn begin(
        state: &Arc<State>,
        tracker: &TaskTracker,
        peer: &PeerRow,
        address: Option<IpAddr>,
    ) -> Result<Self, StoreError> {
        let now = state.clock.now();
        let presence = Self {
            state: Arc::clone(state),
            tracker: tracker.clone(),
            scope: Scope::authenticated(peer.account_id.clone()),
            peer: peer.id.clone(),
            session: next_session(now),
        };
        let begun = PeerSession {
            session: presence.session,
            now,
            connection_ip: address.map(|address| address.to_string()).unwrap_or_default(),
        };
        let mut tx = state.store.begin().await?;
        tx.connect_peer(&presence.scope, &presence.peer, &begun).await?;
        tx.commit().await?;
        Ok(presence)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let (state, scope, peer, session) = (
            Arc::clone(&self.state),
            self.scope.clone(),
            self.peer.clone(),
            self.session,
        );
        self.tracker.spawn(async move {
            if let Err(error) = end(&state, &scope, &peer, session).await {
                warn!(%error, peer.id = %peer, "End of a peer's stream could not be noted");
            }
        });
    }
}

async fn end(state: &State, scope: &Scope, peer: &PeerId, session: i64) -> Result<(), StoreError> {
    let mut tx = state.store.begin().await?;
    tx.disconnect_peer(scope, peer, session, state.clock.now())
        .await?;
    tx.commit().await
}

/// A number greater than all before, also when the clock stands still or goes back.
fn next_session(now: UnixTime) -> i64 {
    let after = |last: i64| Some(now.as_nanos().max(last + 1));
    match LAST_SESSION.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after) {
        Ok(last) | Err(last) => now.as_nanos().max(last + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    async fn connected(world: &World, scope: &Scope, peer: &PeerId) -> bool {
        world
            .state
            .store
            .peer(scope, peer)
            .await
            .unwrap()
            .unwrap()
            .connected
    }

    #[tokio::test]
    async fn an_older_stream_does_not_disconnect_a_newer_one() {
        let world = World::new().await;
        let account = world.account().await;
        let id = world.peer(&account, "a", 2).await;
        let row = world
            .state
            .store
            .peer(&account.scope, &id)
            .await
            .unwrap()
            .unwrap();
        let tracker = TaskTracker::new();

        let older = Presence::begin(&world.state, &tracker, &row, None).await.unwrap();
        let newer = Presence::begin(&world.state, &tracker, &row, None).await.unwrap();
        drop(older);
        tracker.close();
        tracker.wait().await;

        assert!(connected(&world, &account.scope, &id).await);
        tracker.reopen();
        drop(newer);
        tracker.close();
        tracker.wait().await;
        assert!(!connected(&world, &account.scope, &id).await);
    }
}
