//! Accepting connections that peers open to our overlay addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_netstack_core::PublicKey;

use crate::TcpStream;

/// Says which ports an [`ListenSpec::AnyPort`] listener takes.
pub type PortFilter = Arc<dyn Fn(u16) -> bool + Send + Sync>;

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

/// Takes connections; dropping it ends listening.
#[derive(Debug)]
pub struct TcpListener {}

impl TcpListener {
    /// Waits for the next connection; fails once the netstack is closed.
    pub async fn accept(&mut self) -> io::Result<Incoming> {
        todo!()
    }
}
