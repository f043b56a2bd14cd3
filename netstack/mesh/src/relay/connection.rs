//! One WebSocket to a relay.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use meshgate_netstack::Netstack;
use meshgate_proto::WgPublicKey;
use meshgate_proto::relay::{Frame, MAX_FRAME, PeerHash, RelayToken};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::RelayEvent;
use super::outgoing::{Drain, Outgoing};
use crate::board::chain;
use crate::directory::{Directory, Sender};
use crate::trust::Trust;

/// Time for TCP, TLS and the upgrade.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time for the answer to AUTH.
const AUTH_TIMEOUT: Duration = Duration::from_secs(8);
/// The relay says something every 25 s; quiet for longer means that it is gone.
const WATCHDOG: Duration = Duration::from_secs(35);
/// Time for the farewell.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
/// Frames written before one flush.
const BATCH: usize = 64;

/// Why the relay connection is not up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("{0:?} is not a relay address such as rel://host:port")]
    Address(String),
    #[error("management gave no usable token")]
    NoToken,
    #[error("{0}")]
    Connect(String),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimedOut,
    #[error("the relay closed the connection instead of answering our token")]
    TokenRefused,
    #[error("our token was not answered within {} s", AUTH_TIMEOUT.as_secs())]
    AuthTimedOut,
    #[error("the relay answered our token with something else")]
    AuthAnswer,
    #[error("the relay closed the connection")]
    Ended,
    #[error("the relay said nothing for {} s", WATCHDOG.as_secs())]
    Dead,
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("management named other relays")]
    Moved,
    #[error("the client is stopping")]
    Stopping,
}

impl From<tungstenite::Error> for RelayError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Broken(chain(&error))
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where frames from the relay go.
pub(crate) struct Handlers<'a> {
    pub(crate) netstack: &'a Netstack,
    pub(crate) directory: &'a Directory,
    pub(crate) outgoing: &'a Outgoing,
    pub(crate) events: &'a mpsc::Sender<RelayEvent>,
}

/// An authenticated connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    instance_url: String,
    ip: Option<IpAddr>,
}

impl Connection {
    /// Connects and shows the token.
    pub(crate) async fn open(
        url: &str,
        trust: &Trust,
        ours: &WgPublicKey,
        token: &RelayToken,
    ) -> Result<Self, RelayError> {
        let (mut socket, ip) = tokio::time::timeout(CONNECT_TIMEOUT, upgrade(url, trust))
            .await
            .map_err(|_| RelayError::ConnectTimedOut)??;
        let auth = Frame::Auth {
            peer: PeerHash::of(ours),
            token: token.to_bytes(),
        };
        socket.send(Message::Binary(auth.encode())).await?;
        let instance_url = tokio::time::timeout(AUTH_TIMEOUT, auth_answer(&mut socket))
            .await
            .map_err(|_| RelayError::AuthTimedOut)??;
        Ok(Self {
            socket,
            instance_url,
            ip,
        })
    }

    /// The relay's canonical name.
    pub(crate) fn instance_url(&self) -> &str {
        &self.instance_url
    }

    /// The relay's address as OFFERs carry it.
    pub(crate) fn ip(&self) -> Vec<u8> {
        match self.ip {
            Some(IpAddr::V4(v4)) => v4.octets().to_vec(),
            Some(IpAddr::V6(v6)) => v6.octets().to_vec(),
            None => Vec::new(),
        }
    }

    /// Carries frames both ways until the connection ends.
    pub(crate) async fn run(
        self,
        mut drain: Drain,
        handlers: &Handlers<'_>,
        stop: &CancellationToken,
    ) -> Result<(), RelayError> {
        let (mut sink, mut stream) = self.socket.split();
        let result = tokio::select! {
            result = read(&mut stream, handlers) => result,
            result = write(&mut sink, &mut drain, handlers) => result,
            () = stop.cancelled() => Err(RelayError::Stopping),
        };
        if matches!(result, Err(RelayError::Stopping)) {
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell(&mut sink, &mut drain)).await;
        }
        result
    }
}

async fn upgrade(url: &str, trust: &Trust) -> Result<(Socket, Option<IpAddr>), RelayError> {
    let target = Target::parse(url).ok_or_else(|| RelayError::Address(url.to_owned()))?;
    let failed = |error: std::io::Error| RelayError::Connect(error.to_string());
    let tcp = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let ip = tcp.peer_addr().ok().map(|address| address.ip().to_canonical());
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let connector = target.tls.then(|| trust.websocket());
    let (socket, _) =
        tokio_tungstenite::client_async_tls_with_config(target.request, tcp, Some(config), connector)
            .await
            .map_err(|error| RelayError::Connect(chain(&error)))?;
    Ok((socket, ip))
}

/// A relay address, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) request: String,
}

impl Target {
    /// Reads `rel://host:port` and `rels://host:port`; the path is always `/relay`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (tls, web) = match scheme {
            "rel" => (false, "ws"),
            "rels" => (true, "wss"),
            _ => return None,
        };
        let url = Url::parse(&format!("{web}://{rest}")).ok()?;
        let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !plain || !anonymous {
            return None;
        }
        let host = match url.host()? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port_or_known_default().filter(|port| *port != 0)?;
        let request = format!("{web}://{}:{port}/relay", url.host_str()?);
        Some(Self {
            tls,
            host,
            port,
            request,
        })
    }
}

async fn auth_answer(socket: &mut Socket) -> Result<String, RelayError> {
    loop {
        let message = match socket.next().await {
            None | Some(Ok(Message::Close(_))) => return Err(RelayError::TokenRefused),
            Some(Err(tungstenite::Error::Io(_) | tungstenite::Error::Protocol(_))) => {
                return Err(RelayError::TokenRefused);
            }
            Some(message) => message?,
        };
        let Message::Binary(bytes) = message else { continue };
        return match Frame::parse(&bytes) {
            Ok(Frame::AuthResponse { instance_url }) => Ok(instance_url),
            Ok(Frame::Close) => Err(RelayError::TokenRefused),
            Ok(_) | Err(_) => Err(RelayError::AuthAnswer),
        };
    }
}

async fn read(stream: &mut SplitStream<Socket>, handlers: &Handlers<'_>) -> Result<(), RelayError> {
    let watchdog = tokio::time::sleep(WATCHDOG);
    tokio::pin!(watchdog);
    loop {
        let message = tokio::select! {
            message = stream.next() => message.ok_or(RelayError::Ended)??,
            () = &mut watchdog => return Err(RelayError::Dead),
        };
        watchdog.as_mut().reset(Instant::now() + WATCHDOG);
        match message {
            Message::Binary(bytes) => handle(&bytes, handlers).await?,
            Message::Close(_) => return Err(RelayError::Ended),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

async fn handle(bytes: &Bytes, handlers: &Handlers<'_>) -> Result<(), RelayError> {
    let event = match Frame::parse(bytes) {
        Ok(Frame::Transport { peer, datagram }) => {
            pass_on(peer, datagram, handlers);
            return Ok(());
        }
        Ok(Frame::HealthCheck) => {
            handlers.outgoing.control(Frame::HealthCheck.encode());
            return Ok(());
        }
        Ok(Frame::PeersOnline(peers)) => RelayEvent::Online(peers),
        Ok(Frame::PeersWentOffline(peers)) => RelayEvent::Offline(peers),
        Ok(Frame::Close) => return Err(RelayError::Ended),
        Ok(
            Frame::Auth { .. }
            | Frame::AuthResponse { .. }
            | Frame::SubscribePeerState(_)
            | Frame::UnsubscribePeerState(_),
        ) => return Ok(()),
        Err(error) => {
            tracing::debug!(error = %error, "Skipped a relay frame");
            return Ok(());
        }
    };
    handlers
        .events
        .send(event)
        .await
        .map_err(|_| RelayError::Stopping)
}

/// Datagrams of open paths go straight on; others are news. When there is too much news they are dropped:
/// WireGuard sends again.
fn pass_on(hash: PeerHash, datagram: Bytes, handlers: &Handlers<'_>) {
    let peer = match handlers.directory.sender(&hash) {
        Sender::Open(peer) => {
            handlers.netstack.receive(&peer, datagram);
            return;
        }
        Sender::Closed(peer) => Some(peer),
        Sender::Stranger => None,
    };
    let _ = handlers
        .events
        .try_send(RelayEvent::Datagram { peer, hash, datagram });
}

async fn write(
    sink: &mut SplitSink<Socket, Message>,
    drain: &mut Drain,
    handlers: &Handlers<'_>,
) -> Result<(), RelayError> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            biased;
            frame = drain.control.recv() => {
                batch.extend(frame);
                batch.len()
            }
            taken = drain.datagrams.recv_many(&mut batch, BATCH) => taken,
        };
        if taken == 0 {
            return Err(RelayError::Stopping);
        }
        for frame in batch.drain(..) {
            sink.feed(Message::Binary(frame)).await?;
        }
        sink.flush().await?;
        if handlers.outgoing.take_starved() {
            handlers.netstack.relay_ready();
        }
    }
}

/// What is queued still leaves: resets of our streams, so that peers need not wait for timeouts.
async fn farewell(
    sink: &mut SplitSink<Socket, Message>,
    drain: &mut Drain,
) -> Result<(), tungstenite::Error> {
    while let Ok(frame) = drain.datagrams.try_recv() {
        sink.feed(Message::Binary(frame)).await?;
    }
    sink.feed(Message::Binary(Frame::Close.encode())).await?;
    sink.close().await
}
