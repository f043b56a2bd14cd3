//! Keeps the signal stream: sealed words between peers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use meshgate_proto::WgPrivateKey;
use meshgate_proto::network_map::SignalServer;
use meshgate_proto::pb::signalexchange as pb;
use meshgate_proto::pb::signalexchange::signal_exchange_client::SignalExchangeClient;
use meshgate_proto::signal::{SignalBody, SignalMessage};
use tokio::sync::{mpsc, watch};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::Hop;
use crate::board::Board;
use crate::channel::{self, ChannelError, MAX_MESSAGE};
use crate::guard::Backoff;
use crate::trust::Trust;

/// Names us to the server.
const PEER_ID: &str = "x-wiretrustee-peer-id";
/// The server's word that messages to us are passed on from now.
const REGISTERED: &str = "x-wiretrustee-peer-registered";
/// Time for that word.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Quiet time after which we send a message to ourselves.
const QUIET: Duration = Duration::from_secs(30);
/// Time for that message to come back.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages under way at the same time; others wait in the queue.
const MAX_IN_FLIGHT: usize = 64;

/// Why the stream is not up.
#[derive(Debug, thiserror::Error)]
enum SignalError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("ConnectStream was not answered within {} s", REGISTER_TIMEOUT.as_secs())]
    TimedOut,
    #[error("ConnectStream failed with {:?}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    #[error("the server did not register us")]
    NotRegistered,
    #[error("the server ended the stream")]
    Ended,
    #[error("the stream went dead")]
    Dead,
    #[error("the client is stopping")]
    Stopping,
    #[error("management named another server")]
    Moved,
}

/// Keeps the signal stream.
#[derive(Debug)]
pub(crate) struct SignalTask {
    pub(crate) trust: Arc<Trust>,
    pub(crate) key: WgPrivateKey,
    /// Where the server is; `None` before management told.
    pub(crate) server: watch::Receiver<Option<SignalServer>>,
    pub(crate) board: Board,
    /// What we say. While the stream is down, words are dropped: they would be stale.
    pub(crate) outgoing: mpsc::Receiver<SignalMessage>,
    /// What others say.
    pub(crate) incoming: mpsc::Sender<SignalMessage>,
}

impl SignalTask {
    /// Runs until the client stops.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let Some(server) = self.server.borrow_and_update().clone() else {
                if self.server.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let scheme = if server.tls { "https" } else { "http" };
            let url = format!("{scheme}://{}", server.address);
            self.board.connecting(Hop::Signal, &url);
            let error = match self.session(&url, &mut backoff).await {
                Ok(never) => match never {},
                Err(SignalError::Stopping) => return,
                Err(error) => error,
            };
            self.board.failed(Hop::Signal, &error.to_string());
            let pause = backoff.failed(Instant::now(), &mut rand::rng());
            if !self.rest(pause).await {
                return;
            }
        }
    }

    /// Waits, dropping what nobody can carry. `false` when the client stops.
    async fn rest(&mut self, pause: Duration) -> bool {
        let wake = tokio::time::sleep(pause);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return true,
                changed = self.server.changed() => return changed.is_ok(),
                message = self.outgoing.recv() => if message.is_none() { return false },
            }
        }
    }

    async fn session(
        &mut self,
        url: &str,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, SignalError> {
        let channel = channel::connect(url, &self.trust).await?;
        let client = SignalExchangeClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut stream = self.register(client.clone()).await?;
        backoff.connected(Instant::now());
        self.board.up(Hop::Signal);
        let mut watchdog = Watchdog::new(tokio::time::Instant::now());
        let mut sending = FuturesUnordered::new();
        loop {
            tokio::select! {
                message = stream.message() => {
                    let message = message.map_err(|status| SignalError::Refused(Box::new(status)))?;
                    watchdog.heard(tokio::time::Instant::now());
                    self.hear(&message.ok_or(SignalError::Ended)?).await?;
                }
                message = self.outgoing.recv(), if sending.len() < MAX_IN_FLIGHT => {
                    let message = message.ok_or(SignalError::Stopping)?;
                    sending.push(send(client.clone(), message.seal(&self.key)));
                }
                Some(()) = sending.next() => {}
                () = tokio::time::sleep_until(watchdog.due) => {
                    if !watchdog.bark(tokio::time::Instant::now()) {
                        return Err(SignalError::Dead);
                    }
                    sending.push(send(client.clone(), self.heartbeat().seal(&self.key)));
                }
                changed = self.server.changed() => {
                    return Err(if changed.is_ok() { SignalError::Moved } else { SignalError::Stopping });
                }
            }
        }
    }

    /// Opens the stream. We never say anything on it: it only carries words to us.
    async fn register(
        &self,
        mut client: SignalExchangeClient<Channel>,
    ) -> Result<Streaming<pb::EncryptedMessage>, SignalError> {
        let mut request = Request::new(tokio_stream::pending());
        let id: MetadataValue<Ascii> = self
            .key
            .public()
            .to_string()
            .parse()
            .expect("base64 is plain ASCII");
        request.metadata_mut().insert(PEER_ID, id);
        let response = tokio::time::timeout(REGISTER_TIMEOUT, client.connect_stream(request))
            .await
            .map_err(|_| SignalError::TimedOut)?
            .map_err(|status| SignalError::Refused(Box::new(status)))?;
        if !response.metadata().contains_key(REGISTERED) {
            return Err(SignalError::NotRegistered);
        }
        Ok(response.into_inner())
    }

    async fn hear(&self, message: &pb::EncryptedMessage) -> Result<(), SignalError> {
        match SignalMessage::open(message, &self.key) {
            Ok(message) if message.from == self.key.public() => Ok(()),
            Ok(message) => self
                .incoming
                .send(message)
                .await
                .map_err(|_| SignalError::Stopping),
            Err(error) => {
                tracing::debug!(error = %error, "Dropped a signal message");
                Ok(())
            }
        }
    }

    fn heartbeat(&self) -> SignalMessage {
        let ours = self.key.public();
        SignalMessage {
            from: ours,
            to: ours,
            body: SignalBody::Heartbeat,
        }
    }
}

/// Lost messages are not repeated here: the peers' guards do that.
async fn send(mut client: SignalExchangeClient<Channel>, message: pb::EncryptedMessage) {
    match tokio::time::timeout(SEND_TIMEOUT, client.send(message)).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => tracing::debug!(error = %status, "Signal message was refused"),
        Err(_) => tracing::debug!("Signal message was not taken in time"),
    }
}

/// Notices a stream that looks open and carries nothing.
#[derive(Debug)]
struct Watchdog {
    due: tokio::time::Instant,
    waiting: bool,
}

impl Watchdog {
    fn new(now: tokio::time::Instant) -> Self {
        Self {
            due: now + QUIET,
            waiting: false,
        }
    }

    fn heard(&mut self, now: tokio::time::Instant) {
        *self = Self::new(now);
    }

    /// True: send a heartbeat. False: the last one did not come back.
    fn bark(&mut self, now: tokio::time::Instant) -> bool {
        if self.waiting {
            return false;
        }
        self.waiting = true;
        self.due = now + ECHO_TIMEOUT;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_stream_is_tried_and_given_up_when_the_heartbeat_does_not_come_back() {
        let start = tokio::time::Instant::now();
        let mut watchdog = Watchdog::new(start);

        assert_eq!(watchdog.due, start + Duration::from_secs(30));
        assert!(watchdog.bark(watchdog.due));
        assert_eq!(watchdog.due, start + Duration::from_secs(40));
        assert!(!watchdog.bark(watchdog.due));
    }

    #[test]
    fn any_word_calms_the_watchdog() {
        let start = tokio::time::Instant::now();
        let mut watchdog = Watchdog::new(start);
        watchdog.bark(watchdog.due);

        watchdog.heard(start + Duration::from_secs(31));

        assert!(watchdog.bark(watchdog.due));
        assert_eq!(watchdog.due, start + Duration::from_secs(71));
    }
}
