//! Puts the parts of a proxy together, starts them and ends them in order.

mod certificates;
mod error;
mod identity;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::{Clock, ProxyCapabilities, ProxyHello};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::{self, AccessLogSink, Stops};
use crate::config::{Config, ForwardedProto, ListenAddress};
use crate::control::{
    Applier, ClientSettings, Control, FirstContact, ManagementClient, Reporter, StatusBoard, SyncState,
};
use crate::edge::Edge;
use crate::handler::{ForwardedScheme, Forwarding, Handler, ProxyProtocol};
use crate::health::{self, Health, HealthParts};
use crate::login::Login;
use crate::metrics::Metrics;
use crate::routing::RouteTable;
use crate::tunnels::{MeshSettings, MeshStarter, TunnelParts, Tunnels};
use crate::workers::Workers;
use certificates::Certificates;
use identity::Identity;

pub use error::StartError;

/// Longest wait for the first answer of management; after that the proxy goes on trying while it runs.
const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// How long tunnels may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long that and the last access log lines after it may take.
const LAST_LINES: Duration = Duration::from_secs(3);
/// How long tasks may take that were told to end at once.
const LAST_TASKS: Duration = Duration::from_millis(500);
/// Shortest wait for the proxy before this one, which drains and says farewell.
const SUCCESSION: Duration = Duration::from_secs(20);

/// The data plane of one process.
#[derive(Debug)]
pub struct Proxy;

/// A proxy that runs. Dropping it ends nothing in order: call [`Running::shutdown`].
pub struct Running {
    address: SocketAddr,
    health_address: Option<SocketAddr>,
    health: Arc<Health>,
    edge: Arc<Edge>,
    tunnels: Tunnels,
    reload: Arc<Notify>,
    tasks: TaskTracker,
    accepting: CancellationToken,
    serving: CancellationToken,
    lines: Stops,
    drain_time: Duration,
    workers: Vec<Handle>,
    _identity: Identity,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy at the end and were cut.
    pub cut: usize,
}

impl Proxy {
    /// Starts a proxy on the current tokio runtime.
    ///
    /// It returns once management has answered, or has not for ten seconds: then the proxy runs and keeps
    /// trying. A default crypto provider must be installed before.
    ///
    /// # Errors
    ///
    /// What only the operator can change: settings, files, addresses in use, a token that management refuses.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
        config.check_token_exposure()?;
        let patience = SUCCESSION.max(config.drain_time + SUCCESSION / 2);
        let opened = Identity::open(&config.state_dir, patience).await;
        let identity = opened.map_err(|source| StartError::State {
            path: config.state_dir.clone(),
            source,
        })?;
        let serving = CancellationToken::new();
        let tasks = TaskTracker::new();
        let reload = Arc::new(Notify::new());
        let certificates = Certificates::open(&config, &clock)?;
        let client = ManagementClient::new(&ClientSettings {
            management: &config.management,
            root_ca: config.root_ca.as_deref(),
            token: &config.token,
            cluster: &config.domain,
        })?;
        let listener = bind(config.listen).await?;
        let health_listener = match config.health {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let address = local_address(&listener)?;
        let health_address = health_listener.as_ref().map(local_address).transpose()?;

        let parts = Parts::new(&config, &clock, &identity, &client, &certificates)?;
        let lines = Stops::default();
        access_log::send(parts.lines, &client, &parts.sink, &tasks, &lines);
        tasks.spawn(Arc::clone(&parts.reporter).run(client.clone(), serving.child_token()));
        certificates.watch(&tasks, &parts.board, &reload, &serving);
        if let Some(listener) = health_listener {
            tasks.spawn(health::serve(listener, parts.answers, serving.child_token()));
        }
        let (first, contact) = oneshot::channel();
        let (mut control, serving_token) = (parts.control, serving.child_token());
        tasks.spawn(async move { control.run(first, serving_token).await });
        let accepting = CancellationToken::new();
        tasks.spawn(Arc::clone(&parts.edge).serve(listener, accepting.clone()));
        tracing::info!(%address, "Proxy is listening");
        if config.proxy_protocol && config.trusted_proxies.is_empty() {
            tracing::warn!(
                "PROXY headers are believed from everybody: name the load balancers in NB_PROXY_TRUSTED_PROXIES"
            );
        }

        let running = Running {
            address,
            health_address,
            health: parts.health,
            edge: parts.edge,
            tunnels: parts.tunnels,
            reload,
            tasks,
            accepting,
            serving,
            lines,
            drain_time: config.drain_time,
            workers: parts.workers,
            _identity: identity,
        };
        match timeout(FIRST_CONTACT, contact).await {
            Ok(Ok(FirstContact::Refused(error))) => {
                running.shutdown().await;
                Err(StartError::refused(&error))
            }
            Ok(Ok(FirstContact::Unreachable(error))) => {
                tracing::info!(management = error.address, "Proxy runs and waits for management");
                Ok(running)
            }
            Ok(Ok(FirstContact::Connected) | Err(_)) => Ok(running),
            Err(_) => {
                let management = client.address();
                tracing::warn!(
                    management,
                    "Management has not answered yet; the proxy keeps waiting"
                );
                Ok(running)
            }
        }
    }
}

impl Running {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are served, if at all.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health_address
    }

    /// The runtimes that connections and tunnels run on, beside the one that the proxy was started on.
    pub fn workers(&self) -> &[Handle] {
        &self.workers
    }

    /// True once a whole snapshot of management is applied.
    pub fn is_synced(&self) -> bool {
        self.health.is_synced()
    }

    /// Looks at the certificate files now instead of at the next interval.
    pub fn reload_certificates(&self) {
        self.reload.notify_one();
    }

    /// Stops accepting, lets requests finish for as long as was set, then closes tunnels and sends the last log
    /// lines. The ends together take at most five seconds beyond that.
    pub async fn shutdown(self) -> Drained {
        self.health.set_draining();
        self.accepting.cancel();
        let cut = self.edge.drain(self.drain_time).await;
        self.serving.cancel();
        self.tasks.close();
        let farewell = async {
            if timeout(FAREWELL, self.tunnels.stop()).await.is_err() {
                tracing::warn!("Tunnels did not close in time");
            }
            // Only now the last request has ended, and has a line.
            self.lines.soft.cancel();
        };
        tokio::join!(farewell, self.last_lines());
        tracing::info!(connections.cut = cut, "Proxy has stopped");
        Drained { cut }
    }

    async fn last_lines(&self) {
        if timeout(LAST_LINES, self.tasks.wait()).await.is_ok() {
            return;
        }
        self.lines.hard.cancel();
        if timeout(LAST_TASKS, self.tasks.wait()).await.is_err() {
            tracing::error!(tasks.left = self.tasks.len(), "Tasks did not end and were left");
        }
    }
}

/// The parts that need each other.
struct Parts {
    control: Control,
    edge: Arc<Edge>,
    health: Arc<Health>,
    answers: HealthParts,
    tunnels: Tunnels,
    reporter: Arc<Reporter>,
    board: Arc<StatusBoard>,
    sink: AccessLogSink,
    lines: access_log::Lines,
    workers: Vec<Handle>,
}

impl Parts {
    fn new(
        config: &Config,
        clock: &Arc<dyn Clock>,
        identity: &Identity,
        client: &ManagementClient,
        certificates: &Certificates,
    ) -> Result<Self, StartError> {
        let health = Arc::new(Health::default());
        let resync = Arc::new(Notify::new());
        let reporter = Arc::new(Reporter::default());
        let resolver = certificates.resolver();
        let board = Arc::new(StatusBoard::new(Arc::clone(&reporter), Arc::clone(resolver)));
        let tunnel_workers = Workers::per_core("tunnel").map_err(StartError::Threads)?;
        let mut workers: Vec<Handle> = tunnel_workers.runtimes().collect();
        let tunnels = Tunnels::new(TunnelParts {
            registrar: Arc::new(client.clone()),
            starter: Arc::new(MeshStarter::new(
                MeshSettings {
                    management: config.management.clone(),
                    root_ca: config.root_ca.clone(),
                    proxy_id: identity.proxy_id().clone(),
                    wg_port: config.wg_port,
                    preshared_key: config.preshared_key.clone(),
                },
                tunnel_workers,
            )),
            observer: Arc::<StatusBoard>::clone(&board),
            resync: Arc::clone(&resync),
            key_dir: identity.key_dir(),
            max_dial: config.max_dial_timeout,
            allow_direct: config.allow_direct.clone().into(),
        });
        let table = RouteTable::default();
        let routes = Arc::clone(table.shared());
        let (sink, lines) = AccessLogSink::new();
        let login = Arc::new(Login::new(Arc::new(client.clone()), Arc::clone(clock)));
        let metrics = Arc::new(Metrics::new(
            Arc::clone(&routes),
            sink.clone(),
            Arc::clone(&login),
        ));
        let handler = Handler {
            routes,
            login,
            log: sink.clone(),
            clock: Arc::clone(clock),
            forwarding: forwarding(config),
        };
        let certificates: Arc<meshgate_certs::CertResolver> = Arc::clone(resolver);
        let edge_workers = Workers::per_core("edge").map_err(StartError::Threads)?;
        workers.extend(edge_workers.runtimes());
        let edge = Edge::new(
            Arc::new(handler),
            certificates,
            config.max_connections,
            edge_workers,
        )
        .map_err(StartError::Tls)?;
        let control = Control {
            management: Arc::new(client.clone()),
            hello: hello(config, clock, identity),
            applier: Applier::new(table, tunnels.clone(), Arc::clone(&board)),
            health: Arc::clone(&health),
            resync,
            state: SyncState::default(),
            rng: SmallRng::from_os_rng(),
        };
        let answers = HealthParts {
            health: Arc::clone(&health),
            tunnels: tunnels.clone(),
            edge: Arc::clone(&edge),
            metrics,
        };
        Ok(Self {
            control,
            edge,
            health,
            answers,
            tunnels,
            reporter,
            board,
            sink,
            lines,
            workers,
        })
    }
}

fn hello(config: &Config, clock: &Arc<dyn Clock>, identity: &Identity) -> ProxyHello {
    ProxyHello {
        proxy_id: identity.proxy_id().clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: clock.now(),
        address: config.domain.to_string(),
        capabilities: Some(ProxyCapabilities {
            custom_ports: Some(false),
            require_subdomain: Some(config.require_subdomain),
            crowdsec: Some(false),
            private: Some(false),
            private_services: Some(false),
        }),
    }
}

fn forwarding(config: &Config) -> Forwarding {
    Forwarding {
        trusted: config.trusted_proxies.clone(),
        scheme: match config.forwarded_proto {
            ForwardedProto::Auto | ForwardedProto::Https => ForwardedScheme::Https,
            ForwardedProto::Http => ForwardedScheme::Http,
        },
        proxy_protocol: if config.proxy_protocol {
            ProxyProtocol::On
        } else {
            ProxyProtocol::Off
        },
    }
}

async fn bind(address: ListenAddress) -> Result<TcpListener, StartError> {
    let mut last = None;
    for candidate in address.candidates() {
        match TcpListener::bind(candidate).await {
            Ok(listener) => return Ok(listener),
            // Only where there is no IPv6 at all the next candidate can do better.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(unbound(address, error)),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable));
    Err(unbound(address, error))
}

fn unbound(address: ListenAddress, source: io::Error) -> StartError {
    StartError::Bind { address, source }
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(StartError::Socket)
}
