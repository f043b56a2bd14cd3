//! One connection to the relay, from the upgrade to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use meshgate_proto::relay::{Frame, InvalidFrame, MAX_AUTH_FRAME, PeerHash, TRANSPORT_HEADER};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::debug;

use super::hub::{Connection, Queues, Relay};
use super::websocket::{self, CLOSE_NORMAL, CLOSE_PROTOCOL, Incoming, Message};

/// Tasks of sessions at a time, two of each; further clients are turned away.
const MAX_TASKS: usize = 40_000;
/// Time in which a client has to name itself.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the client is asked whether it lives.
const HEALTH_INTERVAL: Duration = Duration::from_secs(25);
/// Silence after which a client is given up.
const MAX_SILENCE: Duration = Duration::from_secs(45);
/// How often silence is measured.
const SILENCE_CHECK: Duration = Duration::from_secs(5);
/// Time for the last words.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes asked of the socket at a time.
const READ_BUFFER: usize = 32 * 1024;
/// Bytes after which no further message joins a write.
const WRITE_BATCH: usize = 64 * 1024;

/// Answers the request for `/relay`: 101 and a session of its own; 400 for other requests, 503 when there are
/// too many sessions.
pub fn upgrade<B>(relay: &Relay, mut request: Request<B>) -> Response<Body> {
    let accepted = websocket::accept(request.headers()).filter(|_| request.method() == http::Method::GET);
    let mut response = Response::new(Body::empty());
    let Some(accepted) = accepted else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    if relay.tracker().len() >= MAX_TASKS {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let relay = relay.clone();
    relay.tracker().clone().spawn(async move {
        match upgraded.await {
            Ok(io) => run(relay, TokioIo::new(io)).await,
            Err(error) => debug!(%error, "Relay upgrade failed"),
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    response
}

/// Serves one client until it leaves, falls silent, is replaced, or the relay ends.
pub(super) async fn run<S>(relay: Relay, io: S)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut read, write) = tokio::io::split(io);
    let mut buffer = BytesMut::with_capacity(READ_BUFFER);
    let authenticated = tokio::select! {
        () = relay.stopping().cancelled() => return,
        result = timeout(AUTH_TIMEOUT, authenticate(&relay, &mut read, &mut buffer)) => result,
    };
    let Ok(Some(peer)) = authenticated else {
        debug!("Relay client did not authenticate");
        return;
    };
    let (connection, queues) = relay.register(peer);
    let heard = Arc::new(AtomicU64::new(0));
    let writer = Writer {
        relay: relay.clone(),
        connection: Arc::clone(&connection),
        queues,
        io: write,
        heard: Arc::clone(&heard),
        batch: Vec::new(),
        out: Vec::new(),
        torn: false,
    };
    let writer = relay.tracker().spawn(writer.run());
    let mut reader = Reader {
        relay: &relay,
        connection: &connection,
        heard: &heard,
        last_receiver: None,
    };
    let ended = tokio::select! {
        () = connection.closed.cancelled() => Ok(()),
        result = reader.run(&mut read, &mut buffer) => result,
    };
    if let Err(error) = ended {
        debug!(%error, peer = ?peer, "Relay client broke off");
    }
    relay.unregister(&connection);
    // The writer sees that the connection is closed and ends by itself.
    let _ = writer.await;
}

/// Waits for AUTH; `None` for anything else.
async fn authenticate<S: AsyncRead>(
    relay: &Relay,
    read: &mut ReadHalf<S>,
    buffer: &mut BytesMut,
) -> Option<PeerHash> {
    loop {
        match websocket::next_message(buffer).ok()? {
            Some(Incoming::Binary(message)) if message.payload().len() <= MAX_AUTH_FRAME => {
                let Ok(Frame::Auth { peer, token }) = Frame::parse(&message.into_payload()) else {
                    return None;
                };
                return relay.admits(&token).then_some(peer);
            }
            Some(Incoming::Ping(_) | Incoming::Pong) => {}
            Some(_) => return None,
            None if buffer.len() > 2 * MAX_AUTH_FRAME => return None,
            None => {
                if read.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
        }
    }
}

struct Reader<'a> {
    relay: &'a Relay,
    connection: &'a Arc<Connection>,
    heard: &'a AtomicU64,
    last_receiver: Option<Arc<Connection>>,
}

impl Reader<'_> {
    async fn run<S: AsyncRead>(&mut self, read: &mut ReadHalf<S>, buffer: &mut BytesMut) -> io::Result<()> {
        loop {
            while let Some(message) = websocket::next_message(buffer).map_err(|violation| {
                self.connection.send_framed(websocket::close(CLOSE_PROTOCOL));
                io::Error::new(io::ErrorKind::InvalidData, violation)
            })? {
                self.heard.fetch_add(1, Ordering::Relaxed);
                match message {
                    Incoming::Binary(message) => {
                        if !self.handle(message).map_err(invalid)? {
                            return Ok(());
                        }
                    }
                    Incoming::Ping(payload) => self.connection.send_framed(websocket::pong(&payload)),
                    Incoming::Pong => {}
                    Incoming::Close => {
                        self.connection.send_framed(websocket::close(CLOSE_NORMAL));
                        return Ok(());
                    }
                }
            }
            if buffer.capacity() - buffer.len() < READ_BUFFER / 4 {
                buffer.reserve(READ_BUFFER);
            }
            if read.read_buf(buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Handles one frame; false when it was the last.
    fn handle(&mut self, mut message: Message) -> Result<bool, InvalidFrame> {
        if let Some(to) = receiver(message.payload()) {
            message.payload_mut()[2..TRANSPORT_HEADER].copy_from_slice(self.connection.peer.as_bytes());
            self.relay
                .deliver(&to, &mut self.last_receiver, message.into_outgoing());
            return Ok(true);
        }
        match Frame::parse(&message.into_payload()) {
            Ok(Frame::SubscribePeerState(peers)) => self.relay.subscribe(self.connection, &peers),
            Ok(Frame::UnsubscribePeerState(peers)) => self.relay.unsubscribe(self.connection, &peers),
            Ok(Frame::Close) => return Ok(false),
            Err(error @ InvalidFrame::Version(_)) => return Err(error),
            // Kinds that only a server sends, and broken ones, are skipped as the reference does.
            Ok(
                Frame::HealthCheck
                | Frame::Transport { .. }
                | Frame::Auth { .. }
                | Frame::AuthResponse { .. }
                | Frame::PeersOnline(_)
                | Frame::PeersWentOffline(_),
            )
            | Err(_) => {}
        }
        Ok(true)
    }
}

/// The receiver of a TRANSPORT frame; `None` for other frames.
fn receiver(payload: &[u8]) -> Option<PeerHash> {
    let (head, rest) = payload.split_first_chunk::<2>()?;
    (*head == [meshgate_proto::relay::VERSION, 3])
        .then(|| rest.first_chunk().copied().map(PeerHash::from_bytes))
        .flatten()
}

fn invalid(error: InvalidFrame) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

struct Writer<S> {
    relay: Relay,
    connection: Arc<Connection>,
    queues: Queues,
    io: WriteHalf<S>,
    heard: Arc<AtomicU64>,
    batch: Vec<bytes::Bytes>,
    out: Vec<u8>,
    /// A write was broken off in the middle of a message: nothing more can be said.
    torn: bool,
}

impl<S: AsyncWrite> Writer<S> {
    async fn run(mut self) {
        let closed = self.connection.closed.clone();
        let stopping = self.relay.stopping().clone();
        tokio::select! {
            biased;
            () = closed.cancelled() => {}
            () = stopping.cancelled() => {}
            _ = self.pump() => closed.cancel(),
        }
        // Last words, for whoever still listens.
        let _ = timeout(FAREWELL_TIMEOUT, self.say_goodbye()).await;
        closed.cancel();
    }

    /// Writes what is queued, many messages at a time; ends with an error of the socket or by silence.
    async fn pump(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let mut health = interval_at(start + HEALTH_INTERVAL, HEALTH_INTERVAL);
        let mut silence = interval_at(start + SILENCE_CHECK, SILENCE_CHECK);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut heard_at) = (0, start);
        loop {
            tokio::select! {
                biased;
                now = silence.tick() => {
                    let count = self.heard.load(Ordering::Relaxed);
                    if count != heard {
                        (heard, heard_at) = (count, now);
                    } else if now - heard_at >= MAX_SILENCE {
                        return Ok(());
                    }
                }
                _ = health.tick() => self.batch.push(websocket::binary(&Frame::HealthCheck.encode())),
                Some(message) = self.queues.control.recv() => self.batch.push(message),
                Some(message) = self.queues.datagrams.recv() => self.batch.push(message),
            }
            self.fill_batch();
            self.flush().await?;
        }
    }

    /// Adds what waits already, so that it leaves with the same write.
    fn fill_batch(&mut self) {
        let mut bytes = 0;
        while bytes < WRITE_BATCH {
            let next = self
                .queues
                .control
                .try_recv()
                .or_else(|_| self.queues.datagrams.try_recv());
            let Ok(message) = next else {
                return;
            };
            bytes += message.len();
            self.batch.push(message);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.out.clear();
        for message in self.batch.drain(..) {
            self.out.extend_from_slice(&message);
        }
        self.torn = true;
        self.io.write_all(&self.out).await?;
        self.torn = false;
        self.io.flush().await
    }

    async fn say_goodbye(&mut self) -> io::Result<()> {
        if self.torn {
            return self.io.shutdown().await;
        }
        self.batch.clear();
        while let Ok(message) = self.queues.control.try_recv() {
            self.batch.push(message);
        }
        if self.relay.stopping().is_cancelled() {
            let farewell = self.relay.farewell(&self.connection);
            self.batch
                .extend(farewell.iter().map(|frame| websocket::binary(&frame.encode())));
        }
        self.flush().await?;
        self.io.shutdown().await
    }
}
