//! The proxy's own peers: one mesh client per account, opened when its first service needs it and closed
//! after its last.
//!
//! An account's key outlives restarts, so the mesh never fills with peers that nobody uses. Opening takes a
//! one-time token that came with a mapping; when none is left, a new snapshot is asked for.

mod account;
mod dial;
mod direct;
mod key;
mod mesh;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshgate_mesh::{MeshStatus, PeerSummary};
use meshgate_proto::{AccountId, Cidr, Secret, ServiceId, WgPrivateKey, WgPublicKey};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::routing::{DialerSource, Network};
use crate::upstream::{DialError, Dialer, Io};
use account::Account;
use dial::{HostDialer, TunnelDialer};

pub(crate) use account::TunnelState;
pub(crate) use mesh::{MeshSettings, MeshStarter};

/// Registrations under way at once.
const REGISTRATIONS: usize = 16;

/// How long a tunnel stays open without a service: a change of domain takes a service away and brings it back.
const LINGER: Duration = Duration::from_secs(15);

/// Registers the proxy's key with an account.
#[async_trait]
pub(crate) trait Registrar: Send + Sync + fmt::Debug {
    /// Makes a peer of the key; a key that is a peer already stays what it is.
    async fn create_peer(
        &self,
        account: &AccountId,
        service: &ServiceId,
        token: &Secret<String>,
        key: WgPublicKey,
    ) -> Result<(), RegisterError>;
}

/// Why a key was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegisterError {
    /// The one-time token was used or has expired.
    #[error("the one-time token is not valid any more")]
    TokenUsed,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// Starts mesh clients.
pub(crate) trait TunnelStarter: Send + Sync + fmt::Debug {
    /// Starts a client that joins with a registered key.
    fn start(&self, key: WgPrivateKey) -> Result<Arc<dyn Tunnel>, String>;
}

/// A running mesh client.
#[async_trait]
pub(crate) trait Tunnel: Send + Sync + fmt::Debug {
    /// Opens a stream to an overlay address or into a network behind a peer.
    async fn connect(&self, to: SocketAddr, within: Duration) -> Result<Box<dyn Io>, DialError>;
    /// How its connections stand.
    fn status(&self) -> watch::Receiver<MeshStatus>;
    /// The peers it knows.
    fn peers(&self) -> Vec<PeerSummary>;
    /// Says farewell and ends.
    async fn stop(&self);
}

/// Hears how tunnels fare.
pub(crate) trait TunnelObserver: Send + Sync + fmt::Debug {
    /// The tunnel of an account changed.
    fn tunnel_changed(&self, account: &AccountId, state: &TunnelState);
    /// The tunnel of an account is closed: nothing is known of it any more.
    fn tunnel_closed(&self, account: &AccountId);
}

/// What tunnels need from the rest of the proxy.
#[derive(Clone, Debug)]
pub(crate) struct TunnelParts {
    /// Registers keys.
    pub(crate) registrar: Arc<dyn Registrar>,
    /// Starts mesh clients.
    pub(crate) starter: Arc<dyn TunnelStarter>,
    /// Hears of changes.
    pub(crate) observer: Arc<dyn TunnelObserver>,
    /// Woken when a token is needed and none is left.
    pub(crate) resync: Arc<Notify>,
    /// Where keys are kept.
    pub(crate) key_dir: PathBuf,
    /// Longest wait for any connection to a target.
    pub(crate) max_dial: Option<Duration>,
    /// Special addresses that may be dialled without a tunnel.
    pub(crate) allow_direct: Arc<[Cidr]>,
}

/// The tunnels of all accounts. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tunnels(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: TunnelParts,
    accounts: Mutex<Accounts>,
    registrations: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Accounts {
    open: FxHashMap<AccountId, Entry>,
    /// Where each service stands among the users.
    homes: FxHashMap<ServiceId, AccountId>,
    /// Cancelled once the former client of an account has ended: one key must not run twice.
    closing: FxHashMap<AccountId, CancellationToken>,
}

#[derive(Debug)]
struct Entry {
    account: Arc<Account>,
    users: FxHashSet<ServiceId>,
}

/// How one account's tunnel stands.
#[derive(Debug)]
pub(crate) struct TunnelSummary {
    /// The account.
    pub(crate) account: AccountId,
    /// Its tunnel.
    pub(crate) state: TunnelState,
    /// The mesh client's connections; absent while there is no client.
    pub(crate) status: Option<MeshStatus>,
    /// The peers it knows.
    pub(crate) peers: Vec<PeerSummary>,
}

impl Tunnels {
    /// No tunnel yet.
    pub(crate) fn new(parts: TunnelParts) -> Self {
        Self(Arc::new(Shared {
            parts,
            accounts: Mutex::default(),
            registrations: Arc::new(Semaphore::new(REGISTRATIONS)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// A service needs the tunnel of its account; the first one opens it, without waiting here. It stops needing
    /// that of any other account.
    pub(crate) fn require(&self, account: &AccountId, service: &ServiceId, token: &Secret<String>) {
        let mut accounts = self.0.accounts.lock();
        if accounts.homes.get(service).is_some_and(|home| home != account) {
            self.leave(&mut accounts, service);
        }
        accounts.homes.insert(service.clone(), account.clone());
        let Accounts { open, closing, .. } = &mut *accounts;
        let entry = open.entry(account.clone()).or_insert_with(|| {
            let after = closing.get(account).cloned();
            Entry {
                account: self.open(account, after),
                users: FxHashSet::default(),
            }
        });
        entry.users.insert(service.clone());
        entry.account.offer(service.clone(), token.clone());
    }

    /// A service needs no tunnel any more; a tunnel without services closes after a while.
    pub(crate) fn release(&self, service: &ServiceId) {
        self.leave(&mut self.0.accounts.lock(), service);
    }

    fn leave(&self, accounts: &mut Accounts, service: &ServiceId) {
        let Some(home) = accounts.homes.remove(service) else {
            return;
        };
        let Some(entry) = accounts.open.get_mut(&home) else {
            return;
        };
        entry.users.remove(service);
        if entry.users.is_empty() {
            self.0.tasks.spawn(linger(Arc::clone(&self.0), home));
        }
    }

    fn open(&self, id: &AccountId, after: Option<CancellationToken>) -> Arc<Account> {
        let account = Arc::new(Account::new(id.clone(), self.0.stop.child_token()));
        let supervised = account::supervise(
            Arc::clone(&account),
            self.0.parts.clone(),
            Arc::clone(&self.0.registrations),
        );
        self.0.tasks.spawn(async move {
            if let Some(after) = after {
                after.cancelled().await;
            }
            supervised.await;
        });
        account
    }

    /// How all tunnels stand.
    pub(crate) fn summaries(&self) -> Vec<TunnelSummary> {
        let accounts: Vec<_> = self
            .0
            .accounts
            .lock()
            .open
            .values()
            .map(|entry| Arc::clone(&entry.account))
            .collect();
        accounts.iter().map(|account| account.summary()).collect()
    }

    /// Closes all tunnels and waits until their peers know.
    pub(crate) async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Shared {
    fn account(&self, id: &AccountId) -> Option<Arc<Account>> {
        self.accounts
            .lock()
            .open
            .get(id)
            .map(|entry| Arc::clone(&entry.account))
    }
}

/// Closes a tunnel that found no new service.
async fn linger(shared: Arc<Shared>, id: AccountId) {
    tokio::select! {
        () = shared.stop.cancelled() => return,
        () = tokio::time::sleep(LINGER) => {}
    }
    let (account, done) = {
        let mut accounts = shared.accounts.lock();
        let Accounts { open, closing, .. } = &mut *accounts;
        let Some(entry) = open.get(&id).filter(|entry| entry.users.is_empty()) else {
            return;
        };
        let account = Arc::clone(&entry.account);
        open.remove(&id);
        let done = CancellationToken::new();
        closing.insert(id.clone(), done.clone());
        (account, done)
    };
    account.close();
    account.ended().await;
    shared.accounts.lock().closing.remove(&id);
    done.cancel();
}

impl DialerSource for Tunnels {
    fn dialer(&self, account: &AccountId, network: Network) -> Arc<dyn Dialer> {
        let parts = &self.0.parts;
        match network {
            Network::Tunnel => Arc::new(TunnelDialer::new(account.clone(), Arc::downgrade(&self.0))),
            Network::Host => Arc::new(HostDialer::new(parts.max_dial, Arc::clone(&parts.allow_direct))),
        }
    }
}
