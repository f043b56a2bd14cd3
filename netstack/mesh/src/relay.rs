//! Keeps the relay connection: datagrams between peers without a direct path, and who is online.

mod connection;
mod outgoing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshgate_netstack::Netstack;
use meshgate_proto::network_map::RelayServers;
use meshgate_proto::relay::{Frame, PeerHash};
use meshgate_proto::{WgPrivateKey, WgPublicKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::connection::RelayError;
use self::connection::{Connection, Handlers};
pub(crate) use self::outgoing::{Outgoing, PeerTransport, Wakes};
use crate::Hop;
use crate::board::Board;
use crate::directory::Directory;
use crate::guard::Backoff;
use crate::trust::Trust;

/// At the start the signal stream gets this much time to come up first: a peer that sees us at the relay
/// may OFFER at once.
const SIGNAL_FIRST: Duration = Duration::from_secs(1);

/// News from the relay.
#[derive(Debug)]
pub(crate) enum RelayEvent {
    /// We are connected.
    Up {
        /// The relay's canonical name, byte for byte.
        instance_url: String,
        /// Address bytes of the relay.
        ip: Vec<u8>,
        /// Told once this has been heard: whoever is ready answers peers with the relay's name.
        heard: oneshot::Sender<()>,
    },
    /// We are not connected any more.
    Down,
    /// These peers are there.
    Online(Vec<PeerHash>),
    /// These peers left.
    Offline(Vec<PeerHash>),
    /// A datagram of a peer without an open path.
    Datagram {
        /// The peer, when the map names it.
        peer: Option<WgPublicKey>,
        /// Its name at the relay.
        hash: PeerHash,
        /// The WireGuard datagram.
        datagram: Bytes,
    },
}

/// Keeps the relay connection.
#[derive(Debug)]
pub(crate) struct RelayTask {
    pub(crate) trust: Arc<Trust>,
    pub(crate) key: WgPrivateKey,
    /// Where the relays are, and the token; `None` before management told.
    pub(crate) servers: watch::Receiver<Option<RelayServers>>,
    pub(crate) board: Board,
    pub(crate) netstack: Netstack,
    pub(crate) directory: Arc<Directory>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) events: mpsc::Sender<RelayEvent>,
    pub(crate) stop: CancellationToken,
}

impl RelayTask {
    /// Runs until the client stops, then says farewell.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut attempt = 0_usize;
        self.wait_for_signal().await;
        loop {
            let Some(servers) = self.servers.borrow_and_update().clone() else {
                if !self.changed().await {
                    return;
                }
                continue;
            };
            let Some(url) =
                (!servers.urls.is_empty()).then(|| servers.urls[attempt % servers.urls.len()].clone())
            else {
                self.board.failed(Hop::Relay, "management named no relay");
                if !self.changed().await {
                    return;
                }
                continue;
            };
            attempt = attempt.wrapping_add(1);
            self.board.connecting(Hop::Relay, &url);
            let error = match self.session(&url, &servers, &mut backoff).await {
                Err(RelayError::Stopping) => return,
                Err(error) => error,
                Ok(()) => RelayError::Ended,
            };
            self.board.failed(Hop::Relay, &error.to_string());
            let pause = backoff.failed(Instant::now(), &mut rand::rng());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                going_on = self.changed() => if !going_on { return },
            }
        }
    }

    async fn session(
        &mut self,
        url: &str,
        servers: &RelayServers,
        backoff: &mut Backoff,
    ) -> Result<(), RelayError> {
        let token = servers.token.as_ref().ok_or(RelayError::NoToken)?;
        let ours = self.key.public();
        let connecting = Connection::open(url, &self.trust, &ours, token);
        let connection = tokio::select! {
            connection = connecting => connection?,
            () = self.stop.cancelled() => return Err(RelayError::Stopping),
        };
        backoff.connected(Instant::now());
        let (heard, is_heard) = oneshot::channel();
        let up = RelayEvent::Up {
            instance_url: connection.instance_url().to_owned(),
            ip: connection.ip(),
            heard,
        };
        let drain = self.outgoing.open();
        self.events.send(up).await.map_err(|_| RelayError::Stopping)?;
        tokio::select! {
            heard = is_heard => heard.map_err(|_| RelayError::Stopping)?,
            () = self.stop.cancelled() => return Err(RelayError::Stopping),
        }
        self.board.up(Hop::Relay);
        let handlers = Handlers {
            netstack: &self.netstack,
            directory: &self.directory,
            outgoing: &self.outgoing,
            events: &self.events,
        };
        let moved = moved(&mut self.servers, url);
        let result = tokio::select! {
            result = connection.run(drain, &handlers, &self.stop) => result,
            error = moved => Err(error),
        };
        self.outgoing.close();
        self.events
            .send(RelayEvent::Down)
            .await
            .map_err(|_| RelayError::Stopping)?;
        result
    }

    async fn wait_for_signal(&self) {
        let mut status = self.board.subscribe();
        let up = status.wait_for(|status| status.signal.is_up());
        tokio::select! {
            _ = tokio::time::timeout(SIGNAL_FIRST, up) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits for other servers. `false` when the client stops.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.servers.changed() => changed.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// Returns when management takes the relay in use away. A new token alone is used at the next connection.
/// The end of the client is not its business: that comes with a farewell.
async fn moved(servers: &mut watch::Receiver<Option<RelayServers>>, url: &str) -> RelayError {
    loop {
        if servers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let still_named = servers
            .borrow_and_update()
            .as_ref()
            .is_some_and(|servers| servers.urls.iter().any(|named| named == url));
        if !still_named {
            return RelayError::Moved;
        }
    }
}

/// Splits a list of peers into frames.
pub(crate) fn subscriptions(peers: &[PeerHash]) -> impl Iterator<Item = Bytes> {
    peers
        .chunks(meshgate_proto::relay::MAX_PEERS)
        .map(|chunk| Frame::SubscribePeerState(chunk.to_vec()).encode())
}

#[cfg(test)]
mod tests;
