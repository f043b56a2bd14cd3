//! Logout: a peer takes itself out of the mesh.

use meshgate_proto::WgPublicKey;

use crate::actor::Scope;
use crate::changes::Change;
use crate::error::UseCaseError;
use crate::state::State;

/// Deletes the peer that proved to have this key.
pub async fn logout(state: &State, key: &WgPublicKey) -> Result<(), UseCaseError> {
    let mut tx = state.store.begin().await?;
    let Some(peer) = tx.peer_by_key_anywhere(key).await? else {
        return Err(UseCaseError::not_found("peer"));
    };
    let scope = Scope::authenticated(peer.account_id.clone());
    tx.delete_peer(&scope, &peer.id).await?;
    tx.commit().await?;
    tracing::info!(peer.id = %peer.id, peer.key = %key.short(), "Peer logged out and was deleted");
    state.changes.publish(Change::PeerRemoved {
        account: peer.account_id,
        peer: peer.id,
        key: *key,
    });
    Ok(())
}
