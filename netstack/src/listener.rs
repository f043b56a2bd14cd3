//! Accepting connections that peers open to our overlay addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_netstack_core::{ListenOn, ListenerId, PortFilter, PublicKey};
use tokio::sync::mpsc;

use crate::TcpStream;
use crate::shared::Shared;

/// Connections that wait to be accepted; further ones are reset.
pub(crate) const BACKLOG: usize = 1024;

/// What a listener takes.
#[derive(Clone)]
pub enum ListenSpec {
    /// One port.
    Port(u16),
    /// Every port that the filter allows and that no other listener has; others are refused with a reset.
    AnyPort {
        /// Asked once for each new connection, on the driver's task: must be quick.
        filter: PortFilter,
    },
}

impl From<ListenSpec> for ListenOn {
    fn from(spec: ListenSpec) -> Self {
        match spec {
            ListenSpec::Port(port) => Self::Port(port),
            ListenSpec::AnyPort { filter } => Self::AnyPort(filter),
        }
    }
}

impl fmt::Debug for ListenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "Port({port})"),
            Self::AnyPort { .. } => f.write_str("AnyPort"),
        }
    }
}

/// A connection that a peer opened.
#[derive(Debug)]
pub struct Incoming {
    /// The connection.
    pub stream: TcpStream,
    /// The peer's overlay address and port.
    pub remote: SocketAddr,
    /// Our overlay address and the port that the peer asked for.
    pub local: SocketAddr,
    /// The peer's key, proven by WireGuard.
    pub peer: PublicKey,
}

impl Incoming {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            remote: stream.peer_addr(),
            local: stream.local_addr(),
            peer: stream.peer(),
            stream,
        }
    }
}

/// Takes connections; dropping it ends listening, connections live on.
#[derive(Debug)]
pub struct TcpListener {
    id: ListenerId,
    incoming: mpsc::Receiver<Incoming>,
    shared: Arc<Shared>,
}

impl TcpListener {
    pub(crate) fn new(id: ListenerId, incoming: mpsc::Receiver<Incoming>, shared: Arc<Shared>) -> Self {
        Self { id, incoming, shared }
    }

    /// Waits for the next connection. Cancel-safe.
    ///
    /// # Errors
    /// `NotConnected` once the netstack is closed.
    pub async fn accept(&mut self) -> io::Result<Incoming> {
        self.incoming
            .recv()
            .await
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.shared.node.lock().unlisten(self.id);
        self.shared.acceptors.lock().remove(&self.id);
    }
}
