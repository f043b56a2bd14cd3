//! One mapping stream from its begin to its end.

use meshgate_proto::ProxyHello;
use tokio::sync::Notify;
use tonic::Code;

use super::apply::Applier;
use super::client::ManagementClient;
use super::error::CallError;
use super::stream::MappingStream;
use super::sync::SyncState;
use crate::health::Health;

/// Which call opens the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// With acknowledgements.
    #[default]
    Sync,
    /// Without; for servers that do not know the other.
    Update,
}

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

/// Opens a stream, falling back to the older call when the newer is unknown. A fallback that worked sticks in `kind`.
pub(super) async fn open(
    client: &ManagementClient,
    hello: &ProxyHello,
    kind: &mut StreamKind,
) -> Result<MappingStream, CallError> {
    if *kind == StreamKind::Sync {
        match client.sync_mappings(hello.clone()).await {
            Err(error) if error.code == Code::Unimplemented => {}
            opened => return opened,
        }
    }
    let opened = client.mapping_updates(hello.clone()).await?;
    *kind = StreamKind::Update;
    Ok(opened)
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

impl StreamKind {
    /// The call to try when this one is unknown to the server.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Sync => Self::Update,
            Self::Update => Self::Sync,
        }
    }
}
