//! Hands connection offers from peer to peer. Blind: bodies are sealed between the peers.
//!
//! A peer registers by opening a stream and is told so in the headers at once, on which it waits. Messages for
//! others come as calls of their own; unknown receivers are passed over in silence.
//!
//! Who drops what: each stream has a queue bounded in messages and bytes. A sender waits for room up to
//! [`SEND_TIMEOUT`]; then the receiver's stream is ended, since it takes nothing, and the message is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use meshgate_proto::WgPublicKey;
use meshgate_proto::pb::signalexchange::EncryptedMessage;
use meshgate_proto::pb::signalexchange::signal_exchange_server::{SignalExchange, SignalExchangeServer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::state::State;

/// How long a sender waits for room in the receiver's queue.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait for one peer.
const QUEUE: usize = 128;
/// Bytes that wait for one peer, in units of [`UNIT`].
const QUEUE_UNITS: usize = 2048;
/// Bytes that one unit stands for.
const UNIT: usize = 1024;
/// Longest message: an offer with the half MiB of a post-quantum (Rosenpass) key in it.
const MAX_MESSAGE: usize = 640 * 1024;

const PEER_ID: &str = "x-wiretrustee-peer-id";
const REGISTERED: &str = "x-wiretrustee-peer-registered";

/// Streams of all peers. Cheap to clone.
#[derive(Clone, Default)]
pub struct SignalHub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    receivers: Mutex<HashMap<WgPublicKey, Receiver>>,
    next_id: AtomicU64,
}

#[derive(Clone)]
struct Receiver {
    id: u64,
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    closed: CancellationToken,
}

/// A message and the room it takes, which is given back when it is sent.
struct Queued {
    message: EncryptedMessage,
    _room: OwnedSemaphorePermit,
}

impl SignalHub {
    /// Whose streams are open.
    pub fn peers(&self) -> Vec<WgPublicKey> {
        self.0.receivers.lock().keys().copied().collect()
    }

    /// Ends the stream of a peer that may not be here any more.
    pub fn disconnect(&self, key: &WgPublicKey) {
        if let Some(receiver) = self.0.receivers.lock().remove(key) {
            receiver.closed.cancel();
        }
    }

    fn register(&self, key: WgPublicKey) -> Registered {
        let (queue, messages) = mpsc::channel(QUEUE);
        let receiver = Receiver {
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            queue,
            room: Arc::new(Semaphore::new(QUEUE_UNITS)),
            closed: CancellationToken::new(),
        };
        let registered = Registered {
            hub: self.clone(),
            key,
            id: receiver.id,
            messages,
            closed: receiver.closed.clone(),
        };
        if let Some(older) = self.0.receivers.lock().insert(key, receiver) {
            older.closed.cancel();
        }
        registered
    }

    async fn send(&self, to: &WgPublicKey, message: EncryptedMessage) {
        let Some(receiver) = self.0.receivers.lock().get(to).cloned() else {
            return;
        };
        let units = u32::try_from(message.body.len() / UNIT + 1).unwrap_or(u32::MAX);
        let queued = async {
            let room = Arc::clone(&receiver.room).acquire_many_owned(units).await.ok()?;
            receiver.queue.send(Queued { message, _room: room }).await.ok()
        };
        tokio::select! {
            biased;
            () = receiver.closed.cancelled() => {}
            result = timeout(SEND_TIMEOUT, queued) => if result.is_err() {
                receiver.closed.cancel();
            }
        }
    }
}

impl std::fmt::Debug for SignalHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalHub")
            .field("streams", &self.0.receivers.lock().len())
            .finish_non_exhaustive()
    }
}

/// One stream, known to the hub until this is dropped.
struct Registered {
    hub: SignalHub,
    key: WgPublicKey,
    id: u64,
    messages: mpsc::Receiver<Queued>,
    closed: CancellationToken,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.closed.cancel();
        let mut receivers = self.hub.0.receivers.lock();
        if receivers
            .get(&self.key)
            .is_some_and(|receiver| receiver.id == self.id)
        {
            receivers.remove(&self.key);
        }
    }
}

/// The generated trait over a [`SignalHub`].
#[derive(Debug)]
pub struct SignalService {
    state: Arc<State>,
    hub: SignalHub,
    stopping: CancellationToken,
}

/// The service, ready to be put on a server.
pub fn server(
    state: Arc<State>,
    hub: SignalHub,
    stopping: CancellationToken,
) -> SignalExchangeServer<SignalService> {
    SignalExchangeServer::new(SignalService { state, hub, stopping }).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl SignalExchange for SignalService {
    type ConnectStreamStream = BoxStream<'static, Result<EncryptedMessage, Status>>;

    async fn send(&self, request: Request<EncryptedMessage>) -> Result<Response<EncryptedMessage>, Status> {
        let message = request.into_inner();
        if let Ok(to) = message.remote_key.parse() {
            self.hub.send(&to, message).await;
        }
        Ok(Response::new(EncryptedMessage::default()))
    }

    async fn connect_stream(
        &self,
        request: Request<Streaming<EncryptedMessage>>,
    ) -> Result<Response<Self::ConnectStreamStream>, Status> {
        let key: WgPublicKey = request
            .metadata()
            .get(PEER_ID)
            .and_then(|id| id.to_str().ok())
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Status::failed_precondition("peer id is missing or malformed"))?;
        let known = self
            .state
            .store
            .peer_by_key_anywhere(&key)
            .await
            .map_err(|error| super::status::internal(&error))?;
        if known.is_none() {
            return Err(Status::failed_precondition("peer is not registered"));
        }
        let stream = SignalStream {
            registered: self.hub.register(key),
            stopping: self.stopping.clone(),
            ended: false,
            _incoming: request.into_inner(),
        };
        let messages = stream::unfold(stream, |mut stream| async move {
            let item = stream.next().await?;
            Some((item, stream))
        });
        let mut response = Response::new(messages.boxed());
        response
            .metadata_mut()
            .insert(REGISTERED, MetadataValue::from_static("1"));
        Ok(response)
    }
}

struct SignalStream {
    registered: Registered,
    stopping: CancellationToken,
    ended: bool,
    /// Peers send nothing here, but they take its end for the end of the call.
    _incoming: Streaming<EncryptedMessage>,
}

impl SignalStream {
    async fn next(&mut self) -> Option<Result<EncryptedMessage, Status>> {
        if self.ended {
            return None;
        }
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => {
                self.ended = true;
                Some(Err(Status::unavailable("server is shutting down")))
            }
            () = self.registered.closed.cancelled() => {
                self.ended = true;
                Some(Err(Status::aborted("stream was replaced or took too long")))
            }
            message = self.registered.messages.recv() => message.map(|queued| Ok(queued.message)),
        }
    }
}

#[cfg(test)]
mod tests;
