//! One account's tunnel: registered, started, watched, and rebuilt when the mesh has forgotten it.

use std::sync::Arc;
use std::time::Duration;

use meshgate_mesh::load_or_create_key;
use meshgate_proto::{AccountId, Secret, ServiceId, WgPrivateKey};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{RegisterError, Tunnel, TunnelParts, TunnelSummary, key};

/// Management forgets tokens after five minutes.
const TOKEN_LIFE: Duration = Duration::from_secs(270);
/// Wait after the first failure; it doubles from failure to failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How a tunnel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TunnelState {
    /// On its way.
    Opening,
    /// A network map is in force.
    Ready,
    /// Not there, and being tried again; why, in words.
    Failed(String),
}

/// The tunnel of one account.
#[derive(Debug)]
pub(super) struct Account {
    id: AccountId,
    ticket: Mutex<Option<Ticket>>,
    fresh: Notify,
    tunnel: watch::Sender<Option<Arc<dyn Tunnel>>>,
    state: watch::Sender<TunnelState>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// A one-time token and what it was made for.
#[derive(Clone, Debug)]
struct Ticket {
    service: ServiceId,
    token: Secret<String>,
    since: Instant,
}

impl Account {
    /// A tunnel that nobody has opened yet.
    pub(super) fn new(id: AccountId, stop: CancellationToken) -> Self {
        Self {
            id,
            ticket: Mutex::new(None),
            fresh: Notify::new(),
            tunnel: watch::Sender::new(None),
            state: watch::Sender::new(TunnelState::Opening),
            stop,
            ended: CancellationToken::new(),
        }
    }

    /// Takes a fresh token for the next registration.
    pub(super) fn offer(&self, service: ServiceId, token: Secret<String>) {
        if token.expose().is_empty() {
            return;
        }
        *self.ticket.lock() = Some(Ticket {
            service,
            token,
            since: Instant::now(),
        });
        self.fresh.notify_one();
    }

    /// Ends the tunnel.
    pub(super) fn close(&self) {
        self.stop.cancel();
    }

    /// Waits until the client has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The running client, waited for at most until `deadline` while it is on its way.
    pub(super) async fn tunnel(&self, deadline: Instant) -> Option<Arc<dyn Tunnel>> {
        let mut tunnel = self.tunnel.subscribe();
        let there = tokio::time::timeout_at(deadline, tunnel.wait_for(Option::is_some)).await;
        there.ok()?.ok()?.clone()
    }

    /// How it stands.
    pub(super) fn summary(&self) -> TunnelSummary {
        let tunnel = self.tunnel.borrow().clone();
        TunnelSummary {
            account: self.id.clone(),
            state: self.state.borrow().clone(),
            status: tunnel.as_ref().map(|tunnel| tunnel.status().borrow().clone()),
            peers: tunnel.map(|tunnel| tunnel.peers()).unwrap_or_default(),
        }
    }

    fn take_ticket(&self) -> Option<Ticket> {
        self.ticket
            .lock()
            .take()
            .filter(|ticket| ticket.since.elapsed() < TOKEN_LIFE)
    }

    /// Puts an unused token back unless a fresher one came.
    fn put_back(&self, ticket: Ticket) {
        self.ticket.lock().get_or_insert(ticket);
    }
}

/// Keeps an account's tunnel open until it is closed.
pub(super) async fn supervise(account: Arc<Account>, parts: TunnelParts, registrations: Arc<Semaphore>) {
    let stop = account.stop.clone();
    let ended = account.ended.clone();
    let supervisor = Supervisor {
        account,
        parts,
        registrations,
    };
    supervisor.set(TunnelState::Opening);
    let mut wait = RETRY_MIN;
    loop {
        let began = Instant::now();
        let failure = tokio::select! {
            () = stop.cancelled() => break,
            failure = supervisor.once() => failure,
        };
        supervisor.close_tunnel().await;
        if began.elapsed() > RETRY_MAX {
            wait = RETRY_MIN;
        }
        tracing::warn!(account.id = %supervisor.account.id, error = %failure, "Tunnel is down");
        supervisor.set(TunnelState::Failed(failure));
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
    supervisor.close_tunnel().await;
    supervisor.parts.observer.tunnel_closed(&supervisor.account.id);
    ended.cancel();
}

struct Supervisor {
    account: Arc<Account>,
    parts: TunnelParts,
    registrations: Arc<Semaphore>,
}

impl Supervisor {
    /// Opens the tunnel and stays until it fails for good; says why.
    async fn once(&self) -> String {
        let key = match self.key().await {
            Ok(key) => key,
            Err(error) => return format!("cannot keep the account's key: {error}"),
        };
        if let Err(error) = self.register(&key).await {
            return format!("cannot register the proxy's peer: {error}");
        }
        let tunnel = match self.parts.starter.start(key) {
            Ok(tunnel) => tunnel,
            Err(error) => return format!("cannot start the tunnel: {error}"),
        };
        self.account.tunnel.send_replace(Some(Arc::clone(&tunnel)));
        self.watch(&*tunnel).await
    }

    async fn key(&self) -> std::io::Result<WgPrivateKey> {
        let path = key::path(&self.parts.key_dir, &self.account.id);
        tokio::task::spawn_blocking(move || load_or_create_key(&path))
            .await
            .map_err(std::io::Error::other)?
    }

    /// Waits for a token, asking for one when there is none, and spends it.
    async fn register(&self, key: &WgPrivateKey) -> Result<(), RegisterError> {
        let ticket = loop {
            if let Some(ticket) = self.account.take_ticket() {
                break ticket;
            }
            self.parts.resync.notify_one();
            self.account.fresh.notified().await;
        };
        let _turn = self.registrations.acquire().await;
        let registered = self
            .parts
            .registrar
            .create_peer(&self.account.id, &ticket.service, &ticket.token, key.public())
            .await;
        if let Err(RegisterError::Failed(_)) = registered {
            self.account.put_back(ticket);
        }
        registered
    }

    async fn watch(&self, tunnel: &dyn Tunnel) -> String {
        let mut status = tunnel.status();
        loop {
            let (ready, permanent) = {
                let now = status.borrow_and_update();
                (now.is_ready(), now.permanent.clone())
            };
            if let Some(permanent) = permanent {
                return permanent.to_string();
            }
            if ready && *self.account.state.borrow() != TunnelState::Ready {
                tracing::info!(account.id = %self.account.id, "Tunnel is ready");
                self.set(TunnelState::Ready);
            }
            if status.changed().await.is_err() {
                return "the mesh client ended".to_owned();
            }
        }
    }

    async fn close_tunnel(&self) {
        if let Some(tunnel) = self.account.tunnel.send_replace(None) {
            tunnel.stop().await;
        }
    }

    fn set(&self, state: TunnelState) {
        self.parts.observer.tunnel_changed(&self.account.id, &state);
        self.account.state.send_replace(state);
    }
}
