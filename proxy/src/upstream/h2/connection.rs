//! The shared connection of one target.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::super::connect::{CONNECT_TIMEOUT, ConnectError, Fresh, connect};
use super::super::dial::{DialError, Io};
use super::super::target::Target;
use super::super::tls::Offer;

/// Requests at once on one connection; more wait.
const MAX_STREAMS: u32 = 100;

/// Bytes that one stream may have under way.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes that all streams together may have under way: enough for every stream to be full, so that
/// clients that stop reading never hold up the others.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Largest header section that a target may answer with.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// A connection that streams can be opened on. Cheap to clone; closes when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct SharedConnection {
    send: SendRequest<Bytes>,
    slots: Arc<Semaphore>,
    driver: Arc<AbortOnDropHandle<()>>,
}

/// Leave to send one request on a connection.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    pub(super) send: SendRequest<Bytes>,
    pub(super) reused: bool,
    _slot: OwnedSemaphorePermit,
    _driver: Arc<AbortOnDropHandle<()>>,
}

/// What a target offers to a request that prefers HTTP/2.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A stream of HTTP/2.
    Stream(StreamSlot),
    /// The target only speaks HTTP/1.1.
    Http1(Box<dyn Io>),
}

/// Opens a stream on the target's connection, or on a new one; `fresh` forbids the old one.
pub(crate) async fn open_stream(target: &Target, fresh: bool) -> Result<Opened, ConnectError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let (connection, reused) = {
        let mut shared = timeout_at(deadline, target.http2().lock())
            .await
            .map_err(|_| DialError::TimedOut)?;
        match shared
            .as_ref()
            .filter(|connection| !fresh && connection.is_open())
        {
            Some(connection) => (connection.clone(), true),
            None => match connect(target, Offer::Http2).await? {
                Fresh::Http1(io) => return Ok(Opened::Http1(io)),
                Fresh::Http2(io) => {
                    let connection = SharedConnection::handshake(io, deadline).await?;
                    (shared.insert(connection).clone(), false)
                }
            },
        }
    };
    connection.slot(deadline, reused).await.map(Opened::Stream)
}

impl SharedConnection {
    async fn handshake(io: Box<dyn Io>, deadline: Instant) -> Result<Self, ConnectError> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .enable_push(false);
        let handshake = builder.handshake::<_, Bytes>(io);
        let (send, connection) = timeout_at(deadline, handshake)
            .await
            .map_err(|_| ConnectError::HandshakeTimedOut)??;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to a target ended");
            }
        });
        Ok(Self {
            send,
            slots: Arc::new(Semaphore::new(MAX_STREAMS as usize)),
            driver: Arc::new(AbortOnDropHandle::new(driver)),
        })
    }

    fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    async fn slot(self, deadline: Instant, reused: bool) -> Result<StreamSlot, ConnectError> {
        let slot = timeout_at(deadline, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| DialError::TimedOut)?
            .expect("the semaphore is never closed");
        let send = timeout_at(deadline, self.send.ready())
            .await
            .map_err(|_| DialError::TimedOut)??;
        Ok(StreamSlot {
            send,
            reused,
            _slot: slot,
            _driver: self.driver,
        })
    }
}
