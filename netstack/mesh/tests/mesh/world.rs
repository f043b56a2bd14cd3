//! A mesh in a box: management, signal and relay on loopback, which can be killed and revived.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshgate_mesh::{Inbound, ListenSpec, Mesh, MeshConfig, PeerPath, TcpStream};
use meshgate_proto::{Secret, WgPrivateKey};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::management::Office;
use crate::relay::Hub;
use crate::signal::Exchange;

pub(crate) const SETUP_KEY: &str = "A1B2C3D4-0000-4000-8000-0123456789AB";
/// Long enough for a busy machine; tests that measure use their own limits.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The servers. Each set of sockets lives in a runtime of its own: dropping it is a kill -9.
pub(crate) struct World {
    pub(crate) office: Arc<Office>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) hub: Arc<Hub>,
    grpc: Door,
    relay: Door,
    grpc_runtime: Option<Runtime>,
    relay_runtime: Option<Runtime>,
}

impl World {
    pub(crate) fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (grpc, relay) = (Door::new(), Door::new());
        let mut world = Self {
            office: Arc::new(Office::new(grpc.address, relay.address)),
            exchange: Arc::new(Exchange::default()),
            hub: Arc::new(Hub::new(relay.address)),
            grpc,
            relay,
            grpc_runtime: None,
            relay_runtime: None,
        };
        world.revive();
        world
    }

    pub(crate) fn kill(&mut self) {
        self.kill_grpc();
        self.kill_relay();
    }

    pub(crate) fn revive(&mut self) {
        self.revive_grpc();
        self.revive_relay();
    }

    pub(crate) fn kill_grpc(&mut self) {
        stop(self.grpc_runtime.take());
        self.office.forget_streams();
        self.exchange.forget_streams();
    }

    pub(crate) fn revive_grpc(&mut self) {
        self.office.restart();
        let runtime = runtime();
        let listener = self.grpc.open(&runtime);
        let (office, exchange) = (Arc::clone(&self.office), Arc::clone(&self.exchange));
        runtime.spawn(crate::management::serve(listener, office, exchange));
        self.grpc_runtime = Some(runtime);
    }

    pub(crate) fn kill_relay(&mut self) {
        stop(self.relay_runtime.take());
        self.hub.forget();
    }

    pub(crate) fn revive_relay(&mut self) {
        let runtime = runtime();
        let listener = self.relay.open(&runtime);
        runtime.spawn(crate::relay::serve(listener, Arc::clone(&self.hub)));
        self.relay_runtime = Some(runtime);
    }

    /// A client that looks for direct paths, or one that does not.
    pub(crate) fn config_with(&self, paths: Paths, name: &str) -> MeshConfig {
        MeshConfig {
            direct_paths: paths == Paths::Direct,
            ..self.config(name)
        }
    }

    pub(crate) fn config(&self, name: &str) -> MeshConfig {
        let url = format!("http://{}", self.grpc.address).parse().unwrap();
        let mut config = MeshConfig::new(url, WgPrivateKey::generate(), name);
        config.setup_key = Some(Secret::from(SETUP_KEY));
        config.inbound = Inbound::Firewall;
        config
    }

    /// A client that is ready.
    pub(crate) async fn join(&self, config: MeshConfig) -> Mesh {
        let mesh = Mesh::start(config).unwrap();
        mesh.ready(SOON).await.unwrap();
        mesh
    }

    /// A client that is ready and echoes on every port.
    pub(crate) async fn join_echo(&self, config: MeshConfig) -> Mesh {
        let mesh = self.join(config).await;
        spawn_echo(&mesh);
        mesh
    }
}

/// Which paths clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    Relay,
    Direct,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn spawn_echo(mesh: &Mesh) {
    let mut listener = mesh
        .listen(ListenSpec::AnyPort {
            filter: Arc::new(|_| true),
        })
        .unwrap();
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(incoming.stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
}

/// Waits until a client's map names the peer of another.
pub(crate) async fn until_known(mesh: &Mesh, other: &Mesh) {
    let key = other.public_key();
    until("the peer is in the map", || {
        mesh.peers().iter().any(|peer| peer.key == key)
    })
    .await;
}

/// Opens a stream to a client's echo and tries it.
pub(crate) async fn dial(from: &Mesh, to: &Mesh) -> TcpStream {
    until_known(from, to).await;
    let address = SocketAddr::from((to.overlay_ip().unwrap(), 7000));
    let mut stream = from.connect(address, SOON).await.unwrap();
    echo(&mut stream).await.unwrap();
    stream
}

/// Waits until packets take the wanted way.
pub(crate) async fn until_on(paths: Paths, mesh: &Mesh) {
    until("the path is as wanted", || match (paths, mesh.peers()[0].path) {
        (Paths::Relay, path) => path == PeerPath::Relay,
        (Paths::Direct, path) => matches!(path, PeerPath::Direct(_)),
    })
    .await;
}

/// Sends a word and reads it back.
pub(crate) async fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let word: [u8; 16] = rand::random();
    stream.write_all(&word).await?;
    let mut back = [0; 16];
    stream.read_exact(&mut back).await?;
    assert_eq!(word, back);
    Ok(())
}

/// Polls a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How long something takes.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = future.await;
    (result, start.elapsed())
}

/// A port that stays ours while nobody listens on it: clients are refused, and no other socket gets it.
struct Door {
    address: SocketAddr,
    _reservation: Socket,
}

impl Door {
    fn new() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let reservation = reusable(any);
        Self {
            address: reservation.local_addr().unwrap().as_socket().unwrap(),
            _reservation: reservation,
        }
    }

    fn open(&self, runtime: &Runtime) -> tokio::net::TcpListener {
        let _context = runtime.enter();
        let socket = reusable(self.address);
        socket.listen(128).unwrap();
        socket.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(socket.into()).unwrap()
    }
}

fn reusable(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Joins the runtime's threads, so that every socket is closed when this returns.
fn stop(runtime: Option<Runtime>) {
    if let Some(runtime) = runtime {
        std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .join()
            .unwrap();
    }
}
