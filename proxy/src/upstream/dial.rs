//! How a byte stream to a target comes about, whatever lies below it: a tunnel or the host's own network.
//!
//! The data plane asks a [`Dialer`] and gets an [`Io`]; it never learns what the stream is made of.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use meshgate_proto::DomainName;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream to a target.
///
/// `poll_read` must return `Pending` while nothing has arrived and must not lose data when it is polled
/// with another task's waker: idle streams are looked at without being waited for.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug + 'static> Io for T {}

/// Opens streams to the targets of one account.
#[async_trait]
pub(crate) trait Dialer: Send + Sync + fmt::Debug + 'static {
    /// Opens a stream within `deadline`, or says why that was not possible.
    ///
    /// Dropping the future gives the attempt up.
    async fn dial(&self, to: &UpstreamAddress, deadline: Duration) -> Result<Box<dyn Io>, DialError>;
}

/// Where a target lives, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UpstreamAddress {
    /// An address and port.
    Ip(SocketAddr),
    /// A name that the dialer resolves in its own network.
    Name {
        /// Host name.
        host: DomainName,
        /// Port.
        port: u16,
    },
}

impl UpstreamAddress {
    /// The port.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The peer that owns the address has no working tunnel.
    #[error("peer is not connected")]
    PeerNotConnected,
    /// No peer and no network owns the address, or its name does not resolve.
    #[error("no route to the target")]
    NoRoute,
    /// The machine answered that nothing listens there.
    #[error("connection was refused")]
    Refused,
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke while it was being opened.
    #[error("connection was reset")]
    Reset,
    /// Anything else.
    #[error("could not connect")]
    Io(#[source] io::Error),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotConnected => Self::PeerNotConnected,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::NoRoute,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Reset
            }
            _ => Self::Io(error),
        }
    }
}
