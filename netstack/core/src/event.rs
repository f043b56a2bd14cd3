//! What the core tells its shell about peers.

use std::net::SocketAddr;

use crate::PublicKey;

/// News about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A handshake completed: the peer is there and its keys are fresh.
    HandshakeCompleted {
        /// The peer.
        peer: PublicKey,
    },
    /// Neither data nor a handshake initiation was answered in time. Told once until the peer is heard again.
    PeerSilent {
        /// The peer.
        peer: PublicKey,
    },
    /// Somebody dials a peer that has no path; the dial waits for one.
    PathWanted {
        /// The peer.
        peer: PublicKey,
    },
    /// An authenticated packet came from another address, and the peer's direct path moved there.
    EndpointChanged {
        /// The peer.
        peer: PublicKey,
        /// Its new endpoint.
        endpoint: SocketAddr,
    },
    /// An authenticated packet came straight from this address while the peer's path is the relay; the path stays.
    EndpointSeen {
        /// The peer.
        peer: PublicKey,
        /// Where the packet came from.
        endpoint: SocketAddr,
    },
}
