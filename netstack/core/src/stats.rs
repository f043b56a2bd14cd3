//! Counters.

use std::time::Instant;

use crate::PathKind;

/// Counters of one peer; bytes are WireGuard datagrams, handshakes included.
#[derive(Debug, Clone, Copy)]
pub struct PeerStats {
    /// When the last handshake completed.
    pub last_handshake: Option<Instant>,
    /// When the last authenticated packet arrived.
    pub last_received: Option<Instant>,
    /// Authenticated bytes received.
    pub rx_bytes: u64,
    /// Bytes handed to the path.
    pub tx_bytes: u64,
    /// How packets reach the peer now.
    pub path: PathKind,
}

/// Counters of a node since it started.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Stats {
    /// WireGuard datagrams received.
    pub rx_datagrams: u64,
    /// WireGuard datagrams produced.
    pub tx_datagrams: u64,
    /// Bytes of received datagrams.
    pub rx_bytes: u64,
    /// Bytes of produced datagrams.
    pub tx_bytes: u64,
    /// Datagrams that were no valid WireGuard message for us.
    pub rx_rejected: u64,
    /// Inner packets whose source or destination was not the peer's or ours.
    pub rx_spoofed: u64,
    /// Flows that the firewall, a full half-open table or a missing listener turned away.
    pub inbound_refused: u64,
    /// Packets dropped because a queue was full.
    pub dropped: u64,
    /// Connections that exist now.
    pub connections: usize,
    /// Those of them that others began and that are not established yet.
    pub half_open: usize,
    /// Timers that wait now, those that nobody expects any more included.
    pub timers: usize,
    /// Peers that exist now.
    pub peers: usize,
}
