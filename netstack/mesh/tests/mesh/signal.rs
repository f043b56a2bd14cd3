//! A small signal server: it passes sealed words on and cannot read them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshgate_proto::pb::signalexchange::EncryptedMessage;
use meshgate_proto::pb::signalexchange::signal_exchange_server::SignalExchange;
use meshgate_proto::signal::{SignalBody, SignalMessage};
use meshgate_proto::{WgPrivateKey, WgPublicKey};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Item = Result<EncryptedMessage, Status>;

/// Streams by peer.
#[derive(Default)]
pub(crate) struct Exchange {
    streams: Mutex<HashMap<String, mpsc::Sender<Item>>>,
    sent: Mutex<Vec<EncryptedMessage>>,
    registers_nobody: AtomicBool,
}

impl Exchange {
    pub(crate) fn forget_streams(&self) {
        self.streams.lock().clear();
    }

    /// Number of messages so far.
    pub(crate) fn count(&self) -> usize {
        self.sent.lock().len()
    }

    /// What was said to a peer so far.
    pub(crate) fn said_to(&self, key: &WgPrivateKey) -> Vec<SignalBody> {
        let sent = self.sent.lock();
        let opened = sent
            .iter()
            .filter_map(|message| SignalMessage::open(message, key).ok());
        opened.map(|message| message.body).collect()
    }

    /// Says something to a peer in the name of another.
    pub(crate) fn say(&self, from: &WgPrivateKey, to: WgPublicKey, body: SignalBody) {
        let message = SignalMessage {
            from: from.public(),
            to,
            body,
        };
        let streams = self.streams.lock();
        streams[&to.to_string()].try_send(Ok(message.seal(from))).unwrap();
    }

    /// From now on the word of registration is missing.
    pub(crate) fn register_nobody(&self) {
        self.registers_nobody.store(true, Ordering::Relaxed);
    }
}

/// The service of one run.
pub(crate) struct Service(pub(crate) Arc<Exchange>);

#[tonic::async_trait]
impl SignalExchange for Service {
    type ConnectStreamStream = Pin<Box<dyn Stream<Item = Item> + Send>>;

    async fn send(&self, request: Request<EncryptedMessage>) -> Result<Response<EncryptedMessage>, Status> {
        let message = request.into_inner();
        self.0.sent.lock().push(message.clone());
        let stream = self.0.streams.lock().get(&message.remote_key).cloned();
        if let Some(stream) = stream {
            let _ = stream.try_send(Ok(message));
        }
        Ok(Response::new(EncryptedMessage::default()))
    }

    async fn connect_stream(
        &self,
        request: Request<Streaming<EncryptedMessage>>,
    ) -> Result<Response<Self::ConnectStreamStream>, Status> {
        let id = request
            .metadata()
            .get("x-wiretrustee-peer-id")
            .and_then(|id| id.to_str().ok())
            .ok_or_else(|| Status::failed_precondition("no peer id"))?
            .to_owned();
        let (sender, receiver) = mpsc::channel(256);
        self.0.streams.lock().insert(id, sender);
        let mut response: Response<Self::ConnectStreamStream> =
            Response::new(Box::pin(ReceiverStream::new(receiver)));
        if !self.0.registers_nobody.load(Ordering::Relaxed) {
            let metadata = response.metadata_mut();
            metadata.insert("x-wiretrustee-peer-registered", "1".parse().unwrap());
        }
        Ok(response)
    }
}
