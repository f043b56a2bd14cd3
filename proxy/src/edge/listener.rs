//! The accept loop: one task per connection, a cap on connections, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::{HttpServerApp, ServerApp};
use rustls::server::ResolvesServerCert;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client_hello::{self, HelloError};
use super::connection::EdgeConnection;
use super::engine::{self, Engine};
use super::http::HttpEdge;
use super::proxy_protocol::{self, AnnouncementError};
use super::shares::Shares;
use super::stream::{EdgeIo, Negotiated};
use super::tls::{EdgeTls, HandshakeError};
use crate::errors;
use crate::handler::{Handler, ProxyProtocol};
use crate::workers::{self, Workers};

/// Pauses after an accept that failed, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// When a client that says nothing is asked whether it is still there, how often, and how many times.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;

/// How long sent bytes may stay without word that they have arrived.
const UNACKNOWLEDGED: Duration = Duration::from_mins(2);

/// How long cut connections may take to go.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The public side of the proxy.
pub(crate) struct Edge {
    engine: Arc<Engine>,
    tls: EdgeTls,
    connections: Arc<Semaphore>,
    clients: Arc<Shares>,
    workers: Workers,
    handler: Arc<Handler>,
    tracker: TaskTracker,
    draining: watch::Sender<bool>,
    hard: CancellationToken,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("connections", &self.tracker.len())
            .finish_non_exhaustive()
    }
}

/// Why a connection came to nothing; the client's fault, or nobody's.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Announcement(#[from] AnnouncementError),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("socket failed")]
    Io(#[from] io::Error),
}

impl Edge {
    /// An edge that serves what `handler` decides with what `certificates` has, for at most
    /// `max_connections` clients at a time; more wait in the backlog. Connections run on `workers`.
    pub(crate) fn new(
        handler: Arc<Handler>,
        certificates: Arc<dyn ResolvesServerCert>,
        max_connections: usize,
        workers: Workers,
    ) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self {
            engine: engine::build(HttpEdge::new(Arc::clone(&handler), max_connections)),
            clients: Shares::new(max_connections),
            workers,
            handler,
            tls: EdgeTls::new(certificates)?,
            connections: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            tracker: TaskTracker::new(),
            draining: watch::Sender::new(false),
            hard: CancellationToken::new(),
        }))
    }

    /// Accepts connections until `stop` is cancelled.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut pause = ACCEPT_PAUSE;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((tcp, peer, permit)) => {
                    pause = ACCEPT_PAUSE;
                    // A proxy in front speaks for many clients.
                    let alone = Some(peer.ip()).filter(|peer| !self.handler.forwarding.trusts(*peer));
                    let Some(share) = self.clients.take(alone) else {
                        tracing::debug!(client.address = %peer.ip(), "A client has too many connections");
                        continue;
                    };
                    let edge = Arc::clone(&self);
                    let place = self.workers.place();
                    let runtime = place.runtime().clone();
                    let served = async move {
                        edge.connection(tcp, peer).await;
                        drop((permit, share, place));
                    };
                    self.tracker.spawn_on(served, &runtime);
                }
                Err(error) => {
                    tracing::warn!(%error, "Could not accept a connection");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(pause) => pause = (pause * 2).min(MAX_ACCEPT_PAUSE),
                    }
                }
            }
        }
    }

    /// Lets requests finish until `grace` is over, then cuts what is left; returns how many were cut.
    ///
    /// Call it when no listener accepts any more.
    pub(crate) async fn drain(&self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        self.draining.send_replace(true);
        self.engine.http_cleanup().await;
        self.tracker.close();
        if timeout_at(deadline, self.tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tracker.len();
        self.hard.cancel();
        // What does not go now holds nothing but a socket; the runtime's end takes it.
        let _ = timeout(CUT_GRACE, self.tracker.wait()).await;
        left
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.tracker.len()
    }

    /// Waits for room, then for a client. Cancel-safe: a permit that is dropped goes back.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (tcp, peer) = listener.accept().await?;
        Ok((tcp, peer, permit))
    }

    async fn connection(&self, tcp: TcpStream, peer: SocketAddr) {
        let served = tokio::select! {
            () = self.hard.cancelled() => return,
            handshaken = Box::pin(self.handshake(tcp, peer)) => handshaken,
        };
        match served {
            Ok(Some(io)) => {
                let draining = self.draining.subscribe();
                let connection = io.connection();
                self.engine.process_new(Box::new(io), &draining).await;
                if let Some(switched) = connection.take_switched() {
                    switched.carry(connection.cut()).await;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(error = %errors::chain(&error), "A connection ended before its first request");
            }
        }
    }

    /// The stream for the engine, or none when the handshake was all that the client wanted.
    async fn handshake(
        &self,
        tcp: TcpStream,
        mut peer: SocketAddr,
    ) -> Result<Option<EdgeIo<TlsStream<TcpStream>>>, ConnectionError> {
        let mut tcp = workers::adopt(tcp)?;
        tcp.set_nodelay(true)?;
        watch(&tcp)?;
        let local = tcp.local_addr()?;
        let fd = tcp.as_raw_fd();
        if self.handler.forwarding.proxy_protocol == ProxyProtocol::On {
            peer = proxy_protocol::client(&mut tcp, peer, &self.handler.forwarding).await?;
        }
        let hello = client_hello::read(&mut tcp).await?;
        let (server_name, is_challenge) = (hello.server_name.clone(), hello.is_challenge);
        let tls = self.tls.handshake(hello, tcp).await?;
        let Some(server_name) = server_name.filter(|_| !is_challenge) else {
            return Ok(None);
        };
        let session = tls.get_ref().1;
        let negotiated = Negotiated {
            http2: session.alpn_protocol() == Some(b"h2"),
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|cipher| cipher.suite().as_str())
                .unwrap_or_default(),
            version: session
                .protocol_version()
                .and_then(|version| version.as_str())
                .unwrap_or_default(),
            fd,
            local,
        };
        let connection = EdgeConnection::new(server_name, peer, self.hard.child_token());
        Ok(Some(EdgeIo::new(tls, connection, negotiated)))
    }
}

/// Lets the system find out when a client is gone without a word.
fn watch(tcp: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_clients_are_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();

        watch(&tcp).unwrap();

        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}
