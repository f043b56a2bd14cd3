//! Ends the signal stream and the relay connection of peers that were deleted.

use std::collections::HashSet;

use meshgate_proto::WgPublicKey;
use meshgate_proto::relay::PeerHash;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::changes::Change;
use crate::grpc::signal_exchange::SignalHub;
use crate::relay::Relay;
use crate::store::{Store, StoreError};

/// The doors that peers keep open.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    signal: SignalHub,
    relay: Relay,
}

impl Doorkeeper {
    pub(super) fn new(signal: SignalHub, relay: Relay) -> Self {
        Self { signal, relay }
    }

    fn expel(&self, key: &WgPublicKey) {
        self.signal.disconnect(key);
        self.relay.disconnect(&PeerHash::of(key));
    }

    /// Ends what strangers hold. Who is there is asked before who may be, so nobody new is taken for one.
    async fn expel_strangers(&self, store: &Store) -> Result<(), StoreError> {
        let (streams, connections) = (self.signal.peers(), self.relay.peers());
        let known = store.peer_keys_anywhere().await?;
        for key in streams.iter().filter(|key| !known.contains(*key)) {
            self.signal.disconnect(key);
        }
        let known: HashSet<_> = known.iter().map(PeerHash::of).collect();
        for peer in connections.iter().filter(|peer| !known.contains(*peer)) {
            self.relay.disconnect(peer);
        }
        Ok(())
    }
}

/// Follows the news; where some were lost, everybody is looked at.
pub(super) async fn run(
    store: Store,
    mut changes: Receiver<Change>,
    doors: Doorkeeper,
    stopping: CancellationToken,
) {
    loop {
        let change = tokio::select! {
            () = stopping.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::PeerRemoved { key, .. }) => doors.expel(&key),
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                warn!(
                    lost,
                    "Too many changes at once; all connected peers are looked up"
                );
                if let Err(error) = doors.expel_strangers(&store).await {
                    let error = &error as &dyn std::error::Error;
                    error!(
                        error,
                        "Deleted peers may stay on signal and relay until they reconnect"
                    );
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
