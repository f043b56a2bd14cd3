//! A small origin, and scripted ones for what no server does on purpose.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::client::{Body, empty, full};
use super::harness::Certificates;

/// A server that answers by path.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
pub(super) struct State {
    /// Requests that came here.
    pub(super) requests: AtomicUsize,
    /// Connections that are open.
    pub(super) open: AtomicUsize,
    /// Body bytes given to the network by `/bytes/…`.
    pub(super) given: AtomicU64,
    /// Body bytes taken by `/upload`.
    pub(super) taken: AtomicU64,
    /// What `/events` sends.
    pub(super) events: Mutex<Option<mpsc::Receiver<Bytes>>>,
    /// While true, `/upload` reads nothing.
    pub(super) lazy: std::sync::atomic::AtomicBool,
}

impl Origin {
    pub(super) async fn start() -> Self {
        Self::serve(None).await
    }

    /// Behind TLS with a certificate that nobody trusts.
    pub(super) async fn start_tls(protocols: &[&[u8]]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Certificates::new().resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self::serve(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    match tls {
                        Some(tls) => {
                            if let Ok(io) = tls.accept(tcp).await {
                                connection(io, Arc::clone(&state)).await;
                            }
                        }
                        None => connection(tcp, Arc::clone(&state)).await,
                    }
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            state,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

async fn connection<S>(io: S, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond(request, &state).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(io), service)
        .await;
}

async fn respond(mut request: Request<Incoming>, state: &Arc<State>) -> Response<Body> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/upload" => {
            let taken = take(request.body_mut(), state).await;
            Response::new(full(taken.to_string()))
        }
        "/early" => Response::builder().status(413).body(full("early")).unwrap(),
        "/events" => {
            let events = state.events.lock().await.take().unwrap();
            let frames = ReceiverStream::new(events).map(|event| Ok::<_, io::Error>(Frame::data(event)));
            let body = BodyExt::boxed(StreamBody::new(frames));
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap()
        }
        "/ws" => websocket(request),
        "/hang" => std::future::pending().await,
        "/redirect" => {
            let host = request.headers()["host"].to_str().unwrap();
            let location = format!("http://{host}/base/login?x=1");
            Response::builder()
                .status(302)
                .header("location", location)
                .body(empty())
                .unwrap()
        }
        "/cookies" => Response::builder()
            .header("set-cookie", "a=1; Path=/")
            .header("set-cookie", "nb_session=evil; Domain=test")
            .header("keep-alive", "timeout=5")
            .body(full("ok"))
            .unwrap(),
        "/grpc" => grpc(request).await,
        _ => match path.strip_prefix("/bytes/") {
            Some(size) => Response::new(bytes(size.parse().unwrap(), state)),
            None => Response::new(full(describe(&request))),
        },
    }
}

/// What came here, one fact per line.
fn describe(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        writeln!(text, "{name}: {value}").unwrap();
    }
    text
}

async fn take(body: &mut Incoming, state: &State) -> u64 {
    while state.lazy.load(Ordering::SeqCst) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        taken += size;
        state.taken.fetch_add(size, Ordering::SeqCst);
    }
    taken
}

fn bytes(size: u64, state: &Arc<State>) -> Body {
    const CHUNK: u64 = 64 * 1024;
    let state = Arc::clone(state);
    let frames = futures::stream::unfold(size, move |left| {
        let state = Arc::clone(&state);
        async move {
            let size = left.min(CHUNK);
            state.given.fetch_add(size, Ordering::SeqCst);
            let chunk = Bytes::from(vec![b'x'; usize::try_from(size).unwrap()]);
            (size > 0).then(|| (Ok::<_, io::Error>(Frame::data(chunk)), left - size))
        }
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(frames))))
}

/// A stream that is polled by one task at a time anyway.
struct SyncStream<T>(std::pin::Pin<Box<dyn futures::Stream<Item = T> + Send + Sync>>);

impl<T> futures::Stream for SyncStream<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// Echoes bytes after the switch until the client ends, or until it says `bye`.
fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    if !request.headers().contains_key("sec-websocket-key") {
        return Response::builder()
            .status(400)
            .body(full("no WebSocket"))
            .unwrap();
    }
    if request.uri().query() == Some("refuse") {
        return Response::builder().status(403).body(full("refused")).unwrap();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(size) = io.read(&mut chunk).await {
            if size == 0 || chunk[..size].ends_with(b"bye") || io.write_all(&chunk[..size]).await.is_err() {
                break;
            }
        }
        let _ = io.shutdown().await;
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(empty())
        .unwrap()
}

async fn grpc(mut request: Request<Incoming>) -> Response<Body> {
    let te = request.headers().get("te").cloned();
    let mut size = 0;
    while let Some(Ok(frame)) = request.body_mut().frame().await {
        size += frame.data_ref().map_or(0, Bytes::len);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-te", te.unwrap_or(HeaderValue::from_static("none")));
    let frames = [
        Ok::<_, io::Error>(Frame::data(Bytes::from(size.to_string()))),
        Ok(Frame::trailers(trailers)),
    ];
    Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(frames))))
}

/// An origin that hands each connection, with its number, to a script.
pub(super) async fn scripted<F, Fut>(script: F) -> (SocketAddr, AbortOnDropHandle<()>)
where
    F: Fn(TcpStream, usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        let mut number = 0;
        while let Ok((tcp, _)) = listener.accept().await {
            connections.spawn(script(tcp, number));
            number += 1;
        }
    });
    (address, AbortOnDropHandle::new(serving))
}

/// Reads one request head; what came behind it stays unread or is lost.
pub(super) async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
