//! One mapping stream from its begin to its end.

use meshgate_proto::ProxyHello;
use tokio::sync::Notify;

use super::apply::Applier;
use super::error::CallError;
use super::stream::{MappingStream, Opener};
use super::sync::SyncState;
use crate::health::Health;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It did, or could not begin.
    Failed(CallError),
    /// Management ended it without a reason.
    Closed,
    /// We ended it to get a new snapshot.
    Resync,
}

/// Opens a stream, with the older call where the newer is unknown or `older` is asked for.
pub(super) async fn open(
    management: &dyn Opener,
    hello: &ProxyHello,
    older: bool,
) -> Result<MappingStream, CallError> {
    if older {
        return management.mapping_updates(hello.clone()).await;
    }
    match management.sync_mappings(hello.clone()).await {
        Err(error) if error.is_unknown_call() => management.mapping_updates(hello.clone()).await,
        opened => opened,
    }
}

/// Takes one message: apply, then acknowledge. An error is the end of the stream.
pub(super) async fn step(
    stream: &mut MappingStream,
    state: &mut SyncState,
    applier: &mut Applier,
    health: &Health,
    resync: &Notify,
) -> Result<(), Ended> {
    // While the snapshot is on its way, it brings what a new one would.
    let synced = !state.is_in_snapshot();
    let batch = tokio::select! {
        biased;
        () = resync.notified(), if synced => return Err(Ended::Resync),
        batch = stream.next() => batch,
    };
    let batch = batch.map_err(Ended::Failed)?.ok_or(Ended::Closed)?;
    applier.apply(state.handle_batch(batch));
    if !synced && !state.is_in_snapshot() {
        applier.snapshot_complete();
        health.set_synced();
        tracing::info!(services = state.len(), "Snapshot is applied");
    }
    stream.acknowledge().await;
    Ok(())
}
