//! Publishes network maps: one task per account that somebody syncs with keeps the account's model in memory,
//! follows committed changes step by step, and hands each connected peer its newest map.
//!
//! The first change is published at once, further ones after a pause that grows with what maps cost; a peer whose map is the same
//! gets nothing. A slow peer is never queued for: an older map that it did not take yet is replaced.

mod access;
mod load;
mod publisher;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshgate_proto::{AccountId, PeerId};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::changes::Change;
use crate::state::State;
use crate::store::StoreError;
use publisher::Publisher;

pub(crate) use load::{network as model_network, peer_model as model_peer, settings as model_settings};
#[cfg(test)]
pub(crate) use stream::map_stream;
pub use stream::{MapStream, PeerUpdate};

/// Commands that wait for one account. What does not fit makes the account look at everything again.
const COMMAND_QUEUE: usize = 1024;

/// The publishers of all accounts. Cheap to clone.
#[derive(Clone)]
pub struct NetworkMaps(Arc<Inner>);

struct Inner {
    state: Arc<State>,
    accounts: Mutex<HashMap<AccountId, Account>>,
    tracker: TaskTracker,
    stopping: CancellationToken,
}

/// The way to the task of one account.
#[derive(Clone)]
struct Account {
    commands: mpsc::Sender<Command>,
    /// News was lost: the model has to be loaded again.
    lagging: Arc<AtomicBool>,
}

enum Command {
    Attach {
        peer: PeerId,
        reply: oneshot::Sender<Result<MapStream, AttachError>>,
    },
    Changed(Change),
}

/// Why a peer gets no maps.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The account does not have the peer.
    #[error("peer is not registered")]
    Unknown,
    /// The account could not be read, or the server is about to end.
    #[error("network maps are not available")]
    Unavailable,
}

impl From<StoreError> for AttachError {
    fn from(error: StoreError) -> Self {
        warn!(%error, "Account could not be read for network maps");
        Self::Unavailable
    }
}

impl NetworkMaps {
    /// Starts to follow changes.
    pub fn start(state: Arc<State>) -> Self {
        let changes = state.changes.subscribe();
        let maps = Self(Arc::new(Inner {
            state,
            accounts: Mutex::default(),
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }));
        let router = maps.clone();
        maps.0.tracker.spawn(async move { router.route(changes).await });
        maps
    }

    /// Gives a peer its maps from now on, the first one at once; an older stream of the peer ends.
    pub async fn attach(&self, account: &AccountId, peer: &PeerId) -> Result<MapStream, AttachError> {
        let (reply, answer) = oneshot::channel();
        let mut command = Command::Attach {
            peer: peer.clone(),
            reply,
        };
        // A task that was about to end may refuse once.
        for _ in 0..2 {
            let Some(account) = self.account(account) else {
                return Err(AttachError::Unavailable);
            };
            match account.commands.send(command).await {
                Ok(()) => return answer.await.unwrap_or(Err(AttachError::Unavailable)),
                Err(mpsc::error::SendError(refused)) => command = refused,
            }
        }
        Err(AttachError::Unavailable)
    }

    /// Ends all tasks and with them all streams.
    pub async fn shutdown(&self) {
        self.0.stopping.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// The task of an account; it is started when there is none.
    fn account(&self, id: &AccountId) -> Option<Account> {
        if self.0.stopping.is_cancelled() {
            return None;
        }
        let mut accounts = self.0.accounts.lock();
        if let Some(account) = accounts.get(id).filter(|account| !account.commands.is_closed()) {
            return Some(account.clone());
        }
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let lagging = Arc::new(AtomicBool::new(false));
        let account = Account {
            commands,
            lagging: Arc::clone(&lagging),
        };
        let publisher = Publisher::new(Arc::clone(&self.0.state), id.clone(), inbox, lagging);
        let stopping = self.0.stopping.clone();
        self.0.tracker.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = publisher.run() => {}
            }
        });
        accounts.insert(id.clone(), account.clone());
        accounts.retain(|_, account| !account.commands.is_closed());
        Some(account)
    }

    async fn route(&self, mut changes: tokio::sync::broadcast::Receiver<Change>) {
        loop {
            let change = tokio::select! {
                () = self.0.stopping.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(change) => self.forward(change),
                Err(RecvError::Lagged(lost)) => {
                    warn!(lost, "Network maps lost changes and look at everything again");
                    for account in self.0.accounts.lock().values() {
                        account.lagging.store(true, Ordering::Release);
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn forward(&self, change: Change) {
        let account = match &change {
            Change::Service { account, .. }
            | Change::ServiceRemoved { account, .. }
            | Change::Peer { account, .. }
            | Change::PeerMeta { account, .. }
            | Change::PeerRemoved { account, .. }
            | Change::Account { account }
            | Change::Group { account }
            | Change::Policy { account } => account,
            Change::ProxyTokenRevoked { .. } | Change::ProxiesChanged { .. } => return,
        };
        let accounts = self.0.accounts.lock();
        if let Some(account) = accounts.get(account)
            && account.commands.try_send(Command::Changed(change)).is_err()
        {
            account.lagging.store(true, Ordering::Release);
        }
    }
}

impl std::fmt::Debug for NetworkMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkMaps")
            .field("accounts", &self.0.accounts.lock().len())
            .finish_non_exhaustive()
    }
}
