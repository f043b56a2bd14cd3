//! The handle that applications hold, and the start of everything behind it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshgate_netstack::{
    Config, ConnectError, ListenSpec, Netstack, PathKind, PrivateKey, TcpListener, TcpStream,
};
use meshgate_proto::{Secret, WgPublicKey};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::Board;
use crate::directory::{Directory, PeerState, net_key};
use crate::engine::{Engine, Identity, Inputs, Outputs};
use crate::network_map::{ClientRoutes, MapPeer, MapState};
use crate::relay::{Outgoing, RelayTask, Wakes};
use crate::signal::SignalTask;
use crate::sync::SyncTask;
use crate::trust::Trust;
use crate::{MeshConfig, MeshInfo, MeshStatus, NotReady, PeerPath, PeerSummary, StartError, system_meta};

/// Messages between the tasks that wait to be read.
const QUEUE: usize = 256;
/// Datagrams of the relay and the socket that wait to be read; more are dropped.
const DATAGRAMS: usize = 1024;
/// Time for a clean end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running mesh client. Clones share it; when the last one goes, it stops without waiting.
#[derive(Debug, Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: WgPublicKey,
    netstack: Netstack,
    directory: Arc<Directory>,
    status: watch::Receiver<MeshStatus>,
    dials: mpsc::Sender<WgPublicKey>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Mesh {
    /// Starts a client on the current tokio runtime.
    ///
    /// It never gives up on what may heal: unreachable servers, restarts, changed addresses. It gives up when
    /// management says that this peer is not welcome; see [`MeshStatus::permanent`].
    pub fn start(config: MeshConfig) -> Result<Self, StartError> {
        let setup_key = check(&config)?;
        let trust = Trust::load(config.extra_root_ca.as_deref()).map_err(|source| StartError::RootCa {
            path: config.extra_root_ca.clone().unwrap_or_default(),
            source,
        })?;
        let netstack = Netstack::start(net_config(&config)).map_err(StartError::Netstack)?;
        let inner = spawn(config, setup_key, Arc::new(trust), netstack);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Our public key.
    pub fn public_key(&self) -> WgPublicKey {
        self.inner.key
    }

    /// Waits until a map is in force and signal and relay are up.
    pub async fn ready(&self, within: Duration) -> Result<MeshInfo, NotReady> {
        let mut status = self.inner.status.clone();
        let settled = status.wait_for(|status| status.is_ready() || status.permanent.is_some());
        let settled = tokio::select! {
            settled = tokio::time::timeout(within, settled) => settled,
            () = self.inner.stop.cancelled() => {
                return Err(match self.status().permanent {
                    Some(failure) => NotReady::Permanent(failure),
                    None => NotReady::Stopped,
                });
            }
        };
        match settled {
            Ok(Ok(status)) => match (&status.permanent, &status.info) {
                (None, Some(info)) => Ok(info.clone()),
                (Some(_), _) | (None, None) => Err(NotReady::explain(&status, within)),
            },
            Ok(Err(_)) => Err(NotReady::Stopped),
            Err(_) => Err(NotReady::explain(&self.status(), within)),
        }
    }

    /// The connections at this moment.
    pub fn status(&self) -> MeshStatus {
        self.inner.status.borrow().clone()
    }

    /// Changes of [`Mesh::status`].
    pub fn watch(&self) -> watch::Receiver<MeshStatus> {
        self.inner.status.clone()
    }

    /// Opens a connection to an overlay address, waking the peer's connection when it sleeps.
    ///
    /// Before the first map it waits for one. While our own relay connection is down it waits for that too.
    ///
    /// # Errors
    /// [`ConnectError::NoPeer`] for an address of nobody and [`ConnectError::PeerOffline`] for a peer that left
    /// come as soon as that is known, [`ConnectError::TimedOut`] after `within`, [`ConnectError::Closed`] when
    /// the client has stopped or given up.
    pub async fn connect(&self, to: SocketAddr, within: Duration) -> Result<TcpStream, ConnectError> {
        let deadline = Instant::now() + within;
        tokio::select! {
            result = tokio::time::timeout_at(deadline.into(), self.dial(to, deadline)) => {
                result.unwrap_or(Err(ConnectError::TimedOut))
            }
            () = self.inner.stop.cancelled() => Err(ConnectError::Closed),
        }
    }

    /// Takes connections that peers open, as far as [`MeshConfig::inbound`] and the map's rules allow. May be
    /// called before the client is ready.
    pub fn listen(&self, spec: ListenSpec) -> io::Result<TcpListener> {
        self.inner.netstack.listen(spec)
    }

    /// The peers of the map in force, in the order of their names.
    pub fn peers(&self) -> Vec<PeerSummary> {
        let peers = self.inner.directory.peers().into_iter();
        let mut summaries: Vec<_> = peers.map(|(peer, state)| self.summary(peer, state)).collect();
        summaries.sort_by(|a, b| a.fqdn.cmp(&b.fqdn));
        summaries
    }

    /// The peer that an overlay address belongs to.
    pub fn peer_at(&self, address: IpAddr) -> Option<PeerSummary> {
        let key = self.inner.directory.owner(address)?;
        self.inner
            .directory
            .peer(&key)
            .map(|(peer, state)| self.summary(peer, state))
    }

    /// Our overlay address; `None` before the login.
    pub fn overlay_ip(&self) -> Option<Ipv4Addr> {
        self.inner.status.borrow().info.as_ref().map(|info| info.address)
    }

    /// Resets every stream, says farewell to the relay and ends every task; peers learn at once that we left.
    pub async fn stop(&self) {
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.inner.netstack.shutdown()).await;
        self.inner.stop.cancel();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.inner.tasks.wait()).await;
    }

    async fn dial(&self, to: SocketAddr, deadline: Instant) -> Result<TcpStream, ConnectError> {
        let mut status = self.inner.status.clone();
        status
            .wait_for(|status| status.map_serial.is_some())
            .await
            .map_err(|_| ConnectError::Closed)?;
        let key = self.inner.directory.owner(to.ip()).ok_or(ConnectError::NoPeer)?;
        if !self.inner.directory.state(&key).connected {
            self.inner
                .dials
                .send(key)
                .await
                .map_err(|_| ConnectError::Closed)?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.inner.netstack.connect(to, left).await
    }

    fn summary(&self, peer: MapPeer, state: PeerState) -> PeerSummary {
        let stats = self.inner.netstack.peer_stats(&net_key(&peer.key));
        let stats = stats.as_ref();
        PeerSummary {
            key: peer.key,
            fqdn: peer.fqdn,
            addresses: peer.addresses,
            connected: state.connected,
            path: match stats.map(|stats| stats.path) {
                Some(PathKind::Direct(address)) => PeerPath::Direct(address),
                Some(PathKind::Relay) => PeerPath::Relay,
                Some(PathKind::None) | None => PeerPath::None,
            },
            last_handshake_age: stats
                .and_then(|stats| stats.last_handshake)
                .map(|at| at.elapsed()),
            rx: stats.map_or(0, |stats| stats.rx_bytes),
            tx: stats.map_or(0, |stats| stats.tx_bytes),
        }
    }
}

/// Returns the setup key as servers expect it: a UUID in lower case.
fn check(config: &MeshConfig) -> Result<Option<Secret<String>>, StartError> {
    if config.hostname.trim().is_empty() {
        return Err(StartError::EmptyHostname);
    }
    let numbers = config.version.split(['-', '+']).next().unwrap_or_default();
    let is_semver = numbers.split('.').count() == 3 && numbers.split('.').all(|n| n.parse::<u64>().is_ok());
    if !is_semver {
        return Err(StartError::InvalidVersion(config.version.clone()));
    }
    let Some(setup_key) = &config.setup_key else {
        return Ok(None);
    };
    let uuid = uuid::Uuid::parse_str(setup_key.expose().trim()).map_err(|_| StartError::InvalidSetupKey)?;
    Ok(Some(Secret::new(uuid.hyphenated().to_string())))
}

/// Without direct paths the node has no UDP socket at all.
fn net_config(config: &MeshConfig) -> Config {
    let private_key = PrivateKey::from_bytes(config.private_key.expose());
    let mut net = Config::new(private_key, Vec::new());
    net.inbound = config.inbound;
    net.udp_bind = config
        .direct_paths
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.wg_port.unwrap_or(0))));
    net
}

fn spawn(
    config: MeshConfig,
    setup_key: Option<Secret<String>>,
    trust: Arc<Trust>,
    netstack: Netstack,
) -> Inner {
    let board = Board::new();
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let key = config.private_key.public();
    let client_routes = client_routes(&config);
    let directory = Arc::new(Directory::default());
    let outgoing = Arc::new(Outgoing::default());
    let (sync_events, sync) = mpsc::channel(QUEUE);
    let (signal_said, signal_to_say) = mpsc::channel(QUEUE);
    let (signal_heard, signal) = mpsc::channel(QUEUE);
    let (relay_events, relay) = mpsc::channel(DATAGRAMS);
    let (dials, dialled) = mpsc::channel(QUEUE);
    let (signal_server, signal_server_seen) = watch::channel(None);
    let (relay_servers, relay_servers_seen) = watch::channel(None);

    let sync_task = SyncTask {
        url: config.management,
        trust: Arc::clone(&trust),
        key: config.private_key.clone(),
        setup_key,
        meta: system_meta::collect(&config.hostname, &config.version, config.flags),
        dns_labels: config.dns_labels,
        board: board.clone(),
        events: sync_events,
    };
    let signal_task = SignalTask {
        trust: Arc::clone(&trust),
        key: config.private_key.clone(),
        server: signal_server_seen,
        board: board.clone(),
        outgoing: signal_to_say,
        incoming: signal_heard,
    };
    let relay_task = RelayTask {
        trust,
        key: config.private_key.clone(),
        servers: relay_servers_seen,
        board: board.clone(),
        netstack: netstack.clone(),
        directory: Arc::clone(&directory),
        outgoing: Arc::clone(&outgoing),
        events: relay_events,
        stop: stop.clone(),
    };
    let inputs = Inputs {
        sync,
        signal,
        relay,
        dials: dialled,
        netstack: netstack.subscribe(),
        datagrams: config.direct_paths.then(|| netstack.other_datagrams(DATAGRAMS)),
        stop: stop.clone(),
    };
    let engine = Engine::new(
        Identity {
            key: config.private_key,
            version: config.version,
            preshared_key: config.preshared_key,
        },
        MapState::new(key, client_routes),
        Outputs {
            netstack: netstack.clone(),
            directory: Arc::clone(&directory),
            outgoing,
            wakes: Arc::new(Wakes::default()),
            board: board.clone(),
            signal: signal_said,
            signal_server,
            relay_servers,
        },
        config.direct_paths,
    );

    let status = board.subscribe();
    tasks.spawn(engine.run(inputs));
    tasks.spawn(relay_task.run());
    tasks.spawn(stop.clone().run_until_cancelled_owned(signal_task.run()));
    tasks.spawn(keep_membership(sync_task, board, netstack.clone(), stop.clone()));
    tasks.close();
    Inner {
        key,
        netstack,
        directory,
        status,
        dials,
        tasks,
        stop,
    }
}

/// A refusal for good ends the whole client.
async fn keep_membership(sync: SyncTask, board: Board, netstack: Netstack, stop: CancellationToken) {
    let Some(Err(failure)) = stop.run_until_cancelled(sync.run()).await else {
        return;
    };
    board.give_up(failure);
    let _ = tokio::time::timeout(STOP_TIMEOUT, netstack.shutdown()).await;
    stop.cancel();
}

fn client_routes(config: &MeshConfig) -> ClientRoutes {
    if config.flags.disable_client_routes {
        ClientRoutes::Ignored
    } else {
        ClientRoutes::Used
    }
}
