//! An edge on a loopback port, with dialers that count and fail on demand.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use meshgate_proto::{AccessLog, AccountId, Mapping, Secret, ServiceId, SessionPublicKey, SystemClock};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::AbortOnDropHandle;

use crate::access_log::{AccessLogSink, Lines};
use crate::edge::Edge;
use crate::handler::{Forwarding, Handler};
use crate::login::{Authenticator, CheckError, Credential, Login};
use crate::routing::{DialerSource, LiveConnections, Network, RouteTable, compile};
use crate::upstream::{DialError, Dialer, Io, UpstreamAddress};
use crate::workers::Workers;

/// Longest time for anything in these tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Names with certificates; `lonely.test` never has a route, and `localhost` is for origins.
const NAMES: [&str; 4] = ["app.test", "other.test", "lonely.test", "localhost"];

pub(super) struct TestEdge {
    pub(super) address: SocketAddr,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) dialer: Arc<TestDialer>,
    pub(super) edge: Arc<Edge>,
    pub(super) stop: CancellationToken,
    table: Mutex<RouteTable>,
    logs: tokio::sync::Mutex<Lines>,
    _accepting: AbortOnDropHandle<()>,
}

impl TestEdge {
    pub(super) async fn start(mappings: Vec<Mapping>) -> Self {
        Self::start_with(mappings, 1000).await
    }

    pub(super) async fn start_with(mappings: Vec<Mapping>, max_connections: usize) -> Self {
        let edge = Self::start_unready(max_connections).await;
        edge.publish(mappings, LiveConnections::Cut);
        edge
    }

    /// An edge that has not been told of any service yet.
    pub(super) async fn start_unready(max_connections: usize) -> Self {
        let table = RouteTable::default();
        let clock = Arc::new(SystemClock);
        let (log, logs) = AccessLogSink::new();
        let handler = Handler {
            routes: Arc::clone(table.shared()),
            login: Arc::new(Login::new(
                Arc::new(NobodyKnows),
                Arc::clone(&clock) as Arc<dyn meshgate_proto::Clock>,
            )),
            log,
            clock,
            forwarding: Forwarding::default(),
        };
        let certificates = Certificates::new();
        let edge = Edge::new(
            Arc::new(handler),
            certificates.resolver,
            max_connections,
            Workers::here(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(Arc::clone(&edge).serve(listener, stop.clone()));
        Self {
            address,
            roots: certificates.roots,
            dialer: Arc::new(TestDialer::default()),
            edge,
            stop,
            table: Mutex::new(table),
            logs: tokio::sync::Mutex::new(logs),
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Puts mappings in force, as one revision.
    pub(super) fn publish(&self, mappings: Vec<Mapping>, live: LiveConnections) {
        let mut table = self.table.lock();
        let source = Source(Arc::clone(&self.dialer));
        let revision = table.next_revision();
        for mapping in mappings {
            table.put(compile(&mapping, revision, &source).unwrap(), live);
        }
        table.publish();
    }

    pub(super) fn remove(&self, service: &str) {
        let mut table = self.table.lock();
        table.remove(&ServiceId::new(service));
        table.publish();
    }

    pub(super) async fn next_log(&self) -> AccessLog {
        let next = async { self.logs.lock().await.recv().await.unwrap() };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("a line must come")
    }
}

/// A mapping that leads to an address.
pub(super) fn mapping(id: &str, domain: &str, target: &str) -> Mapping {
    let mut mapping = crate::routing::tests::mapping(id, domain);
    target.clone_into(&mut mapping.paths[0].target);
    mapping
}

/// The open service `app.test`.
pub(super) fn app(origin: SocketAddr) -> Mapping {
    mapping("s1", "app.test", &format!("http://{origin}"))
}

/// The same behind a PIN.
pub(super) fn guarded(mut mapping: Mapping) -> Mapping {
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
    mapping.auth.pin = true;
    mapping.auth.session_key = Some(SessionPublicKey(key.to_bytes()));
    mapping
}

/// How a dialer lays its streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wire {
    /// A socket.
    #[default]
    Tcp,
    /// Memory, pumped into a socket: no descriptor, like a stream of a tunnel.
    Duplex,
    /// The same, until the peer is lost.
    Losable,
}

#[derive(Debug, Default)]
pub(super) struct TestDialer {
    dials: AtomicUsize,
    failures: Mutex<VecDeque<DialError>>,
    wire: Mutex<Wire>,
    lost: CancellationToken,
}

impl TestDialer {
    pub(super) fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    pub(super) fn fail_next(&self, error: DialError) {
        self.failures.lock().push_back(error);
    }

    /// From now on the peer is away.
    pub(super) fn lose_peer(&self) {
        self.lost.cancel();
    }

    pub(super) fn lay(&self, wire: Wire) {
        *self.wire.lock() = wire;
    }
}

#[async_trait]
impl Dialer for TestDialer {
    async fn dial(&self, to: &UpstreamAddress, _deadline: Duration) -> Result<Box<dyn Io>, DialError> {
        if self.lost.is_cancelled() {
            return Err(DialError::PeerNotConnected);
        }
        if let Some(error) = self.failures.lock().pop_front() {
            return Err(error);
        }
        self.dials.fetch_add(1, Ordering::SeqCst);
        let mut tcp = match to {
            UpstreamAddress::Ip(address) => TcpStream::connect(address).await?,
            UpstreamAddress::Name { host, port } => TcpStream::connect((host.as_str(), *port)).await?,
        };
        let wire = *self.wire.lock();
        if wire == Wire::Tcp {
            return Ok(Box::new(tcp));
        }
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut far, &mut tcp).await;
        });
        if wire == Wire::Duplex {
            return Ok(Box::new(near));
        }
        let lost = Box::pin(self.lost.clone().cancelled_owned());
        Ok(Box::new(LosableIo { io: near, lost }))
    }
}

/// A stream that breaks as one of a tunnel does when its peer goes away.
#[derive(Debug)]
struct LosableIo {
    io: DuplexStream,
    lost: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for LosableIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::HostUnreachable.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for LosableIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[derive(Debug)]
struct Source(Arc<TestDialer>);

impl DialerSource for Source {
    fn dialer(&self, _account: &AccountId, _network: Network) -> Arc<dyn Dialer> {
        Arc::clone(&self.0) as Arc<dyn Dialer>
    }
}

#[derive(Debug)]
struct NobodyKnows;

#[async_trait]
impl Authenticator for NobodyKnows {
    async fn authenticate(
        &self,
        _service: &ServiceId,
        _account: &AccountId,
        _credential: Credential,
    ) -> Result<Option<Secret<String>>, CheckError> {
        Ok(None)
    }
}

pub(super) struct Certificates {
    pub(super) resolver: Arc<ResolvesServerCertUsingSni>,
    pub(super) roots: Arc<RootCertStore>,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let mut resolver = ResolvesServerCertUsingSni::new();
        let mut roots = RootCertStore::empty();
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        roots.add(made.cert.der().clone()).unwrap();
        for name in NAMES {
            let certified = CertifiedKey::new(vec![made.cert.der().clone()], Arc::clone(&key));
            resolver.add(name, certified).unwrap();
        }
        Self {
            resolver: Arc::new(resolver),
            roots: Arc::new(roots),
        }
    }
}

impl fmt::Debug for TestEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEdge").finish_non_exhaustive()
    }
}

/// Waits for a condition by looking again and again.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
