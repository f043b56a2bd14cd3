//! Wires the control plane together and runs it.
//!
//! Ending has two steps: the soft stop ends streams and lets requests run out, says goodbye on the relay, and
//! after [`GRACE`] the hard stop drops what is left.

mod expel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meshgate_proto::relay::RelayKey;
use meshgate_proto::{Clock, Secret};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tracing::{info, warn};
use url::Url;

use crate::changes::Changes;
use crate::config::Config;
use crate::grpc::management_service::{self, MeshServers, PeerSurface, ServerKey};
use crate::grpc::proxy_service::{ProxySettings, ProxySide};
use crate::grpc::signal_exchange::{self, SignalHub};
use crate::password::{PasswordPool, PoolLimits};
use crate::reconcile::network_maps::NetworkMaps;
use crate::reconcile::{ended_tokens, ephemeral_peers};
use crate::relay::Relay;
use crate::secrets::load_or_create;
use crate::server::{self, Doors, Stop};
use crate::state::State;
use expel::Doorkeeper;

/// Time that running requests and streams have to end.
pub const GRACE: Duration = Duration::from_secs(4);
/// Time that the database has to close after that, without those who use it.
const CLOSE: Duration = Duration::from_millis(500);

/// The control plane.
#[derive(Clone, Copy, Debug)]
pub struct Management;

/// A control plane that runs until it is shut down. Dropped, it is cut off without goodbye.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    exposed_address: Url,
    state: Arc<State>,
    relay: Relay,
    maps: NetworkMaps,
    stop: Stop,
    tasks: TaskTracker,
}

impl Management {
    /// Opens the data directory, binds the port and serves.
    ///
    /// An exposed address with port 0 gets the port that was bound.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Running> {
        let (store, at_rest) = crate::data::open(&config).await?;
        let tls = config
            .tls
            .as_ref()
            .map(|files| server::acceptor(files, clock.now()))
            .transpose()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let local_addr = listener.local_addr().context("cannot read the bound address")?;
        let exposed_address = exposed(&config, local_addr);
        let relay_key = RelayKey::new(&auth_secret(&config)?);
        let passwords =
            PasswordPool::start(PoolLimits::default()).context("cannot start the password threads")?;
        let state = Arc::new(State {
            store,
            clock: Arc::clone(&clock),
            changes: Changes::new(),
            config: Arc::new(config),
            at_rest,
            passwords: Arc::new(passwords.clone()),
        });
        let stop = Stop::default();
        let tasks = TaskTracker::new();
        let servers = MeshServers::new(
            &exposed_address,
            state.config.stuns.clone(),
            relay_key.clone(),
            Arc::clone(&clock),
        )?;
        let relay = Relay::new(relay_key, servers.relay_url().to_owned(), clock);
        let signal = SignalHub::default();
        ephemeral_peers::forget_streams(&state).await?;
        let maps = NetworkMaps::start(Arc::clone(&state));
        let proxies = ProxySide::open(
            Arc::clone(&state),
            passwords,
            ProxySettings::default(),
            stop.soft.clone(),
        )
        .await?;
        let surface = PeerSurface {
            state: Arc::clone(&state),
            maps: maps.clone(),
            servers: Arc::new(servers),
            key: Arc::new(ServerKey::generate()),
            stopping: stop.soft.clone(),
            tracker: tasks.clone(),
        };
        let grpc = Routes::new(management_service::server(surface))
            .add_service(signal_exchange::server(
                Arc::clone(&state),
                signal.clone(),
                stop.soft.clone(),
            ))
            .add_service(proxies.service())
            .into_axum_router();
        let doors = Doors {
            grpc,
            rest: crate::rest::router(Arc::clone(&state)),
            relay: relay.clone(),
        };
        tasks.spawn(expel::run(
            state.store.clone(),
            state.changes.subscribe(),
            Doorkeeper::new(signal, relay.clone()),
            stop.soft.clone(),
        ));
        tasks.spawn(ephemeral_peers::run(Arc::clone(&state), stop.soft.clone()));
        tasks.spawn(ended_tokens::run(Arc::clone(&state), stop.soft.clone()));
        tasks.spawn(async move { proxies.run().await });
        tasks.spawn(server::serve(listener, tls, doors, stop.clone()));
        info!(listen = %local_addr, exposed = %exposed_address, "Management started");
        Ok(Running {
            local_addr,
            exposed_address,
            state,
            relay,
            maps,
            stop,
            tasks,
        })
    }
}

impl Running {
    /// Where the port listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How it is reached from outside.
    pub fn exposed_address(&self) -> &Url {
        &self.exposed_address
    }

    /// What the surfaces share.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Ends everything; takes little more than [`GRACE`] at most.
    pub async fn shutdown(self) {
        self.stop.soft.cancel();
        self.stop.tracker.close();
        self.tasks.close();
        let orderly = async {
            self.relay.shutdown().await;
            self.stop.tracker.wait().await;
            self.maps.shutdown().await;
            self.tasks.wait().await;
            self.state.store.close().await;
        };
        if timeout(GRACE, orderly).await.is_err() {
            warn!("Some connections did not end in time and are dropped");
        }
        self.stop.hard.cancel();
        if timeout(CLOSE, self.state.store.close()).await.is_err() {
            warn!("Database did not close in time; what was committed is safe");
        }
        info!("Management stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.soft.cancel();
        self.stop.hard.cancel();
    }
}

fn exposed(config: &Config, bound: SocketAddr) -> Url {
    let mut exposed = config.exposed_address.clone();
    if exposed.port() == Some(0) {
        // Fails for addresses without a host only, which are refused later.
        let _ = exposed.set_port(Some(bound.port()));
    }
    exposed
}

fn auth_secret(config: &Config) -> anyhow::Result<Secret<String>> {
    match &config.auth_secret {
        Some(secret) => Ok(secret.clone()),
        None => Ok(load_or_create(&config.data_dir.join("auth.secret"))?),
    }
}
