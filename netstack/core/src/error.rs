//! Why a connection could not start, or ended early.

use std::io;

/// Why a connection could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No peer's allowed addresses cover the destination, or we have no address of its family.
    #[error("no peer has this address")]
    NoPeer,
    /// The peer is known to be offline, or fell silent while we waited.
    #[error("the peer is not connected")]
    PeerOffline,
    /// The deadline passed without an answer.
    #[error("the connection timed out")]
    TimedOut,
    /// The peer refused: nothing listens on that port.
    #[error("the connection was refused")]
    Refused,
    /// The connection was reset while it was being made.
    #[error("the connection was reset")]
    Reset,
    /// Every local port towards this destination is in use.
    #[error("no local port is free")]
    PortsExhausted,
    /// The netstack is shutting down.
    #[error("the netstack is closed")]
    Closed,
}

/// Why an established connection ended early. Found inside the `io::Error` of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The peer refused the connection.
    #[error("the connection was refused")]
    Refused,
    /// The peer reset the connection.
    #[error("the connection was reset")]
    Reset,
    /// Data stayed unacknowledged for too long.
    #[error("the connection timed out")]
    TimedOut,
    /// The peer went offline or was removed.
    #[error("the peer is not connected")]
    PeerOffline,
    /// We ended it: aborted by its owner, or the netstack is shutting down.
    #[error("the connection is closed")]
    Aborted,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure {
            Failure::Refused => io::ErrorKind::ConnectionRefused,
            Failure::Reset => io::ErrorKind::ConnectionReset,
            Failure::TimedOut => io::ErrorKind::TimedOut,
            Failure::PeerOffline => io::ErrorKind::HostUnreachable,
            Failure::Aborted => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, failure)
    }
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused => Self::Refused,
            Failure::Reset => Self::Reset,
            Failure::TimedOut => Self::TimedOut,
            Failure::PeerOffline => Self::PeerOffline,
            Failure::Aborted => Self::Closed,
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match error {
            ConnectError::NoPeer => io::ErrorKind::NetworkUnreachable,
            ConnectError::PeerOffline => io::ErrorKind::HostUnreachable,
            ConnectError::TimedOut => io::ErrorKind::TimedOut,
            ConnectError::Refused => io::ErrorKind::ConnectionRefused,
            ConnectError::Reset => io::ErrorKind::ConnectionReset,
            ConnectError::PortsExhausted => io::ErrorKind::AddrNotAvailable,
            ConnectError::Closed => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}
