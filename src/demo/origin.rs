//! The web server behind the demo: it shows what reached it and does what tests of a proxy need.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bytes/N` | N zero bytes, streamed |
//! | `GET /events` | ten server-sent events, one every 200 ms |
//! | `POST`, `PUT` | length and SHA-256 of the body |
//! | WebSocket upgrade on any path | every message comes back |
//! | anything else | method, path and headers as they arrived |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Request};
use axum::http::{Method, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, RequestPartsExt};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Most bytes that `/bytes/N` gives.
const MAX_BYTES: u64 = 16 << 30;
const EVENTS: u32 = 10;
const EVENT_INTERVAL: Duration = Duration::from_millis(200);
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Serves on a free loopback port until told to stop.
pub(crate) async fn start(stop: CancellationToken) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, router()).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(server.into_future());
    Ok(address)
}

fn router() -> Router {
    Router::new()
        .route("/bytes/{count}", get(bytes))
        .route("/events", get(events))
        .fallback(any(anything))
}

async fn bytes(Path(count): Path<u64>) -> Response {
    if count > MAX_BYTES {
        return (StatusCode::BAD_REQUEST, format!("at most {MAX_BYTES} bytes\n")).into_response();
    }
    let chunks = stream::unfold(count, |left| async move {
        let take = left.min(ZEROES.len() as u64);
        let size = usize::try_from(take).unwrap_or(ZEROES.len());
        (left > 0).then(|| {
            (
                Ok::<_, Infallible>(Bytes::from_static(&ZEROES[..size])),
                left - take,
            )
        })
    });
    let length = (header::CONTENT_LENGTH, count.to_string());
    let kind = (header::CONTENT_TYPE, "application/octet-stream".to_owned());
    ([length, kind], Body::from_stream(chunks)).into_response()
}

async fn events() -> Response {
    let ticks = stream::unfold(0, |sent| async move {
        if sent > 0 {
            tokio::time::sleep(EVENT_INTERVAL).await;
        }
        let event = Event::default().id(sent.to_string()).data(format!("tick {sent}"));
        (sent < EVENTS).then_some((Ok::<_, Infallible>(event), sent + 1))
    });
    Sse::new(ticks).into_response()
}

async fn anything(request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Ok(upgrade) = parts.extract::<WebSocketUpgrade>().await {
        return upgrade.on_upgrade(echo);
    }
    if matches!(parts.method, Method::POST | Method::PUT) {
        return upload(body).await;
    }
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| {
        [
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ]
    });
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: headers.collect(),
    };
    Json(seen).into_response()
}

/// A request as it reached the origin.
#[derive(Serialize)]
struct Seen {
    method: String,
    path: String,
    headers: Vec<[String; 2]>,
}

/// What an upload came to.
#[derive(Serialize)]
struct Received {
    length: u64,
    sha256: String,
}

async fn upload(body: Body) -> Response {
    let mut stream = body.into_data_stream();
    let mut hash = Sha256::new();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        length += chunk.len() as u64;
        hash.update(&chunk);
    }
    Json(Received {
        length,
        sha256: format!("{:x}", hash.finalize()),
    })
    .into_response()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let back = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            // The answer to a close goes out with the next look for a message, which then finds none.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        if back.is_err() {
            return;
        }
    }
}
