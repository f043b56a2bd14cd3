//! The relay: carries packets between peers that have no direct path.
//!
//! Peers speak frames of [`meshgate_proto::relay`] over a WebSocket on `/relay`. The relay cannot read what it
//! carries. [`Relay`] is the directory of who is connected; `session` is one connection; `websocket` is the
//! little of RFC 6455 that is needed, written so that a datagram is passed on in the buffer it arrived in.
//!
//! Who drops what: each connection has a bounded queue of datagrams; when it is full, further datagrams *to*
//! that peer are dropped and counted, as a congested link would, and nobody else waits. News about presence
//! may not be lost; a peer that does not even take those is disconnected.

#[cfg(test)]
mod corpus;
mod hub;
mod session;
#[cfg(test)]
mod tests;
mod websocket;

pub use hub::{Relay, RelayStats};
pub use session::upgrade;
