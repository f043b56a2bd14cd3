//! A web server behind the tunnel that remembers what reached it and does what a test tells it to.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bytes/SEED/N` | the [`Payload`] of that seed and length |
//! | `GET /events/CHANNEL` | server-sent events, one for each call of [`Origin::send_event`] |
//! | `GET /hold` | none, ever |
//! | `POST`, `PUT` | length, SHA-256 and the beginning of the body |
//! | WebSocket upgrade on any path | every message comes back; the text `close` makes the server close |
//! | a gRPC call | 404 with a page, as web servers answer what they do not know |
//! | anything else | method, path and headers as they arrived |

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, RequestPartsExt as _};
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Payload;

/// Bytes of a body that an answer repeats.
const EXCERPT: usize = 1024;

/// Events on their way to slow readers.
const EVENTS: usize = 1024;

/// Longest wait for the port.
const START: Duration = Duration::from_secs(20);

/// Code with which the server closes a WebSocket when it is told to.
pub const CLOSE_CODE: u16 = 4000;

/// A request as it reached the origin, which is also what the origin answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers in their order.
    pub headers: Vec<[String; 2]>,
}

impl Seen {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self
            .headers
            .iter()
            .filter(|[key, _]| key.eq_ignore_ascii_case(name));
        values.map(|[_, value]| value.as_str()).collect()
    }
}

/// What an upload came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    /// Bytes.
    pub length: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// The beginning of the body.
    #[serde(default)]
    pub excerpt: String,
}

/// A running web server on a loopback port; it ends when it is dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    state: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    uploads: Mutex<Vec<Received>>,
    channels: Mutex<HashMap<String, broadcast::Sender<String>>>,
}

impl Shared {
    fn channel(&self, name: &str) -> broadcast::Sender<String> {
        let mut channels = self.channels.lock();
        channels
            .entry(name.to_owned())
            .or_insert_with(|| broadcast::channel(EVENTS).0)
            .clone()
    }
}

impl Origin {
    /// Starts on a free port.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        let state = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let router = router(Arc::clone(&state));
        let bound = runtime().spawn(async {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        });
        let bound = tokio::time::timeout(START, bound)
            .await
            .expect("the origin starts")
            .expect("it does not panic");
        let (listener, address) = bound.expect("the origin can listen");
        let stopped = stop.clone().cancelled_owned();
        runtime().spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, router).into_future() => {}
                () = stopped => {}
            }
        });
        Self {
            address,
            state,
            _stop: stop.drop_guard(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests whose head arrived.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }

    /// How many requests to the path arrived, whatever their query.
    pub fn hits(&self, path: &str) -> usize {
        let seen = self.state.seen.lock();
        seen.iter()
            .filter(|request| request.path.split('?').next() == Some(path))
            .count()
    }

    /// Forgets what it has seen, for those who ask for hours.
    pub fn forget(&self) {
        self.state.seen.lock().clear();
        self.state.uploads.lock().clear();
    }

    /// Uploads whose body arrived to its end.
    pub fn uploads(&self) -> Vec<Received> {
        self.state.uploads.lock().clone()
    }

    /// Sends an event to every open `/events/CHANNEL`, and says how many there are.
    pub fn send_event(&self, channel: &str, data: &str) -> usize {
        self.sender(channel).send(data.to_owned()).unwrap_or(0)
    }

    /// Where events for `/events/CHANNEL` go in.
    pub fn sender(&self, channel: &str) -> broadcast::Sender<String> {
        self.state.channel(channel)
    }
}

/// Where origins run: they outlive the runtimes of single tests.
fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .enable_all()
            .thread_name("origin")
            .build()
            .expect("a thread can be started")
    });
    &RUNTIME
}

fn router(state: Arc<Shared>) -> Router {
    Router::new()
        .route("/bytes/{seed}/{count}", get(bytes))
        .route("/events/{channel}", get(events))
        .route("/hold", any(std::future::pending::<StatusCode>))
        .fallback(any(anything))
        .layer(from_fn_with_state(Arc::clone(&state), remember))
        .with_state(state)
}

async fn remember(State(state): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    state.seen.lock().push(seen(&request));
    next.run(request).await
}

fn seen(request: &Request) -> Seen {
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| {
        [
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ]
    });
    Seen {
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: headers.collect(),
    }
}

async fn bytes(Path((seed, count)): Path<(u64, u64)>) -> Response {
    let length = [
        ("content-length", count.to_string()),
        ("content-type", "application/octet-stream".to_owned()),
    ];
    (length, Body::from_stream(Payload::new(seed, count).stream())).into_response()
}

async fn events(State(state): State<Arc<Shared>>, Path(channel): Path<String>) -> Response {
    let events = stream::unfold(state.channel(&channel).subscribe(), |mut events| async move {
        let data = events.recv().await.ok()?;
        Some((Ok::<_, Infallible>(Event::default().data(data)), events))
    });
    Sse::new(events).into_response()
}

async fn anything(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let echo = seen(&request);
    let (mut parts, body) = request.into_parts();
    if let Ok(upgrade) = parts.extract::<WebSocketUpgrade>().await {
        return upgrade.on_upgrade(echo_messages);
    }
    if echo
        .all("content-type")
        .iter()
        .any(|kind| kind.starts_with("application/grpc"))
    {
        return (StatusCode::NOT_FOUND, Html("<h1>Not found</h1>")).into_response();
    }
    if matches!(parts.method, Method::POST | Method::PUT) {
        return upload(&state, body).await;
    }
    Json(echo).into_response()
}

async fn upload(state: &Shared, body: Body) -> Response {
    let mut stream = body.into_data_stream();
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut excerpt = Vec::new();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let room = EXCERPT.saturating_sub(excerpt.len());
        excerpt.extend(chunk.iter().take(room));
        length += chunk.len() as u64;
        hash.update(&chunk);
    }
    let excerpt = String::from_utf8_lossy(&excerpt).into_owned();
    let received = Received {
        length,
        sha256: format!("{:x}", hash.finalize()),
        excerpt,
    };
    state.uploads.lock().push(received.clone());
    Json(received).into_response()
}

async fn echo_messages(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let back = match message {
            Message::Text(text) if text.as_str() == "close" => {
                let frame = CloseFrame {
                    code: CLOSE_CODE,
                    reason: "as asked".into(),
                };
                let _ = socket.send(Message::Close(Some(frame))).await;
                // The closing handshake ends when the other side has answered.
                while let Some(Ok(_)) = socket.recv().await {}
                return;
            }
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            // The answer to a closing frame goes out when the socket is asked for more.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        if back.is_err() {
            return;
        }
    }
}
