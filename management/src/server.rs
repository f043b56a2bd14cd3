//! One TCP port for everything: gRPC, the relay and REST, over TLS or in the clear, HTTP/1.1 or HTTP/2.
//!
//! What a request is for is told by its content type and path: `application/grpc*` goes to the gRPC services,
//! `/relay` to the relay, everything else to REST.

mod calls;
mod io;
mod slots;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpConnectInfo;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::relay::{self, Relay};
use calls::Room;
use io::FirstBytes;
use slots::Slots;

pub use tls::{TlsError, acceptor};

/// Time for the TLS handshake and for the first bytes.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the head of an HTTP/1 request, the pause between two of them included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, which mostly means that there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a quiet HTTP/2 connection is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Calls at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Flow control window of a call and of a connection.
const WINDOW: u32 = 1024 * 1024;
/// Bytes of request headers.
const MAX_HEAD: u32 = 32 * 1024;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// What is behind the port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    /// gRPC services.
    pub grpc: Router,
    /// REST and everything else.
    pub rest: Router,
    /// The relay.
    pub relay: Relay,
}

/// How a server ends.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Accept nothing new and let running requests end.
    pub soft: CancellationToken,
    /// Drop what still runs.
    pub hard: CancellationToken,
    /// All connections.
    pub tracker: TaskTracker,
}

/// Accepts connections until the soft stop.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, doors: Doors, stop: Stop) {
    let slots = Slots::default();
    let room = Room::default();
    let builder = Arc::new(builder());
    loop {
        let accepted = tokio::select! {
            () = stop.soft.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "Connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = slots.take(address.ip()) else {
            warn!(source = %address.ip(), "Too many connections, of all or of this network");
            continue;
        };
        let connection = Connection {
            address,
            builder: Arc::clone(&builder),
            doors: doors.clone(),
            room: room.clone(),
            soft: stop.soft.clone(),
        };
        let (tls, hard) = (tls.clone(), stop.hard.clone());
        stop.tracker.spawn(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = connection.run(stream, tls) => {}
            }
            drop(slot);
        });
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MAX_HEAD);
    builder
}

struct Connection {
    address: SocketAddr,
    builder: Arc<auto::Builder<TokioExecutor>>,
    doors: Doors,
    room: Room,
    soft: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "Connection was gone at once");
            return;
        }
        let Some(tls) = tls else {
            return self.serve(stream).await;
        };
        match timeout(START_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => debug!("TLS handshake took too long"),
        }
    }

    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            address,
            builder,
            doors,
            room,
            soft,
        } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let (doors, room) = (doors.clone(), room.clone());
            async move { Ok::<_, Infallible>(doors.call(request, address, &room).await) }
        });
        let stream = TokioIo::new(FirstBytes::new(stream, START_TIMEOUT));
        let connection = builder.serve_connection_with_upgrades(stream, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = soft.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(error = %error, "Connection broke off");
        }
    }
}

impl Doors {
    async fn call(self, mut request: Request<Incoming>, address: SocketAddr, room: &Room) -> Response<Body> {
        if request.uri().path() == "/relay" {
            return relay::upgrade(&self.relay, request);
        }
        let extensions = request.extensions_mut();
        extensions.insert(ClientAddress(address));
        extensions.insert(ConnectInfo(address));
        extensions.insert(TcpConnectInfo {
            local_addr: None,
            remote_addr: Some(address),
        });
        let is_grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc);
        let (router, request) = if is_grpc {
            let (head, body) = request.into_parts();
            let body = room.bounded(head.uri.path(), body);
            (self.grpc, Request::from_parts(head, body))
        } else {
            (self.rest, request.map(Body::new))
        };
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

fn is_grpc(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(b"application/grpc")
}
