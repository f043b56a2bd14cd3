//! How packets reach a peer.

use std::net::SocketAddr;

/// How packets reach a peer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathKind {
    /// Not at all; connections wait.
    #[default]
    None,
    /// Straight to this UDP address.
    Direct(SocketAddr),
    /// Through the relay connection that the shell keeps for the peer.
    Relay,
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The UDP socket.
    Direct(SocketAddr),
    /// The relay, which says that this peer sent it.
    Relay(crate::PublicKey),
}
