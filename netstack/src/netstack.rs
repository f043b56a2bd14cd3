//! The handle that everything else holds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use meshgate_netstack_core::{ConnectError, Event, FirewallRule, PeerConfig, PeerStats, PublicKey, Stats};
use tokio::sync::{broadcast, mpsc};

use crate::{Config, ListenSpec, Path, TcpListener, TcpStream};

/// A userspace WireGuard node with its own TCP/IP stack. Clones share it; the last one to go stops it.
#[derive(Debug, Clone)]
pub struct Netstack {}

/// A UDP datagram that is no WireGuard message: STUN, candidate probes.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// Its payload.
    pub payload: Bytes,
}

impl Netstack {
    /// Binds the socket and spawns the driver on the current tokio runtime.
    pub fn start(config: Config) -> io::Result<Self> {
        let _ = config.into_node();
        todo!()
    }

    /// The port of the UDP socket, if there is one.
    pub fn udp_port(&self) -> Option<u16> {
        todo!()
    }

    /// Replaces our overlay addresses; connections from an address that is gone fail.
    pub fn set_addresses(&self, _addresses: Vec<IpAddr>) {
        todo!()
    }

    /// Adds a peer or changes it; a path that it has stays.
    pub fn upsert_peer(&self, _peer: PeerConfig) {
        todo!()
    }

    /// Removes a peer; its connections fail.
    pub fn remove_peer(&self, _peer: &PublicKey) {
        todo!()
    }

    /// Sets how packets reach the peer; no effect for an unknown peer.
    pub fn set_path(&self, _peer: &PublicKey, _path: Path) {
        todo!()
    }

    /// Starts a handshake now.
    pub fn initiate(&self, _peer: &PublicKey) {
        todo!()
    }

    /// Replaces the inbound rules; accepted connections that they no longer allow are reset.
    pub fn set_firewall(&self, _rules: Vec<FirewallRule>) {
        todo!()
    }

    /// Tells whether the peer is known to be there. While it is not, dials and streams fail at once with
    /// `PeerOffline`. A new peer is online.
    pub fn set_peer_online(&self, _peer: &PublicKey, _online: bool) {
        todo!()
    }

    /// Takes a WireGuard datagram that the relay delivered from `peer`; dropped when the queue is full.
    pub fn receive(&self, _peer: &PublicKey, _datagram: Bytes) {
        todo!()
    }

    /// Tells that a relay transport which said "full" has room again.
    pub fn relay_ready(&self) {
        todo!()
    }

    /// Returns the channel of UDP datagrams that are no WireGuard messages. A second call takes over from the
    /// first; datagrams are dropped while the channel is full.
    pub fn other_datagrams(&self, _capacity: usize) -> mpsc::Receiver<Datagram> {
        todo!()
    }

    /// Sends a UDP datagram from the WireGuard socket, for STUN and candidate probes.
    pub fn send_raw(&self, _to: SocketAddr, _payload: &[u8]) -> io::Result<()> {
        todo!()
    }

    /// Opens a connection to an overlay address.
    pub async fn connect(&self, _to: SocketAddr, _deadline: Duration) -> Result<TcpStream, ConnectError> {
        todo!()
    }

    /// Takes connections that peers open, as far as the inbound policy allows.
    ///
    /// # Errors
    /// `AddrInUse` when another listener has the port (or is the `AnyPort` one).
    pub fn listen(&self, _spec: ListenSpec) -> io::Result<TcpListener> {
        todo!()
    }

    /// News about peers. Slow readers lag and lose the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        todo!()
    }

    /// Counters of a peer.
    pub fn peer_stats(&self, _peer: &PublicKey) -> Option<PeerStats> {
        todo!()
    }

    /// Counters of the whole node.
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Resets every connection and stops the driver; returns when it is done.
    pub async fn shutdown(&self) {
        todo!()
    }
}
