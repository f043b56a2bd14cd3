//! Words of the peer machine: what goes in and what comes out.

use std::net::SocketAddr;

/// Which side steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Ours is the greater key text: we start the first handshake.
    Controller,
    /// The peer starts the first handshake.
    Follower,
}

/// How packets reach the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Route {
    /// Not at all; connections wait.
    #[default]
    None,
    /// Through the relay.
    Relay,
    /// The peer parked the connection: the first real packet wakes it.
    Parked,
    /// Straight to this address.
    Direct(SocketAddr),
}

/// What dials and streams shall think of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is there, or may be.
    Possible,
    /// It is gone: they fail at once.
    Gone,
}

/// What the machine wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Ask the relay to tell when the peer is online.
    Subscribe,
    /// Send an OFFER.
    Offer,
    /// Send an ANSWER.
    Answer,
    /// Send our own addresses.
    Candidates,
    /// Send a sealed probe to this address.
    Probe(SocketAddr),
    /// From now on packets go this way; told again when they turned out to go another.
    Route(Route),
    /// Start a WireGuard handshake.
    Initiate,
    /// Tell dials and streams.
    Reach(Reach),
}

/// Whether the sender of an OFFER or ANSWER speaks ICE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ice {
    /// It gave credentials.
    Offered,
    /// It gave none: it uses relays, or addresses in our own way.
    Absent,
}
