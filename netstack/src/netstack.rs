//! The handle that everything else holds.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshgate_netstack_core::{
    ConnectError, Event, FirewallRule, Node, PathKind, PeerConfig, PeerStats, Presence, PublicKey, Stats,
};
use tokio::sync::{broadcast, mpsc};

use crate::driver::Driver;
use crate::listener::BACKLOG;
use crate::shared::{Relayed, Shared};
use crate::udp::UdpTransport;
use crate::{Config, ListenSpec, Path, TcpListener, TcpStream};

/// A userspace WireGuard node with its own TCP/IP stack. Clones share it; the last one to go stops it.
#[derive(Debug, Clone)]
pub struct Netstack {
    owner: Arc<Owner>,
}

/// A UDP datagram that is no WireGuard message: STUN, candidate probes.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// Its payload.
    pub payload: Bytes,
}

/// Stops the driver when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Netstack {
    /// Binds the socket and spawns the driver on the current tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: Config) -> io::Result<Self> {
        let socket = config.udp_bind.map(UdpTransport::bind).transpose()?;
        let node = Node::new(config.into_node(), Instant::now(), rand::random());
        let shared = Arc::new(Shared::new(node, socket));
        tokio::spawn(Driver::new(Arc::clone(&shared)).run());
        Ok(Self {
            owner: Arc::new(Owner { shared }),
        })
    }

    /// Our public key.
    pub fn public_key(&self) -> PublicKey {
        self.shared().node.lock().public_key()
    }

    /// The port of the UDP socket, if there is one.
    pub fn udp_port(&self) -> Option<u16> {
        self.shared().socket.as_ref().map(UdpTransport::port)
    }

    /// Replaces our overlay addresses; connections from an address that is gone fail.
    pub fn set_addresses(&self, addresses: Vec<IpAddr>) {
        self.change(|node| node.set_addresses(addresses));
    }

    /// Adds a peer or changes it; a path that it has stays.
    pub fn upsert_peer(&self, peer: PeerConfig) {
        self.change(|node| node.upsert_peer(Instant::now(), peer));
    }

    /// Removes a peer; its connections fail.
    pub fn remove_peer(&self, peer: &PublicKey) {
        self.change(|node| node.remove_peer(peer));
        self.shared().push_removed(*peer);
    }

    /// Sets how packets reach the peer; no effect for an unknown peer.
    ///
    /// A direct path follows the peer when an authenticated packet comes from another address. A relay path stays
    /// until it is set anew, whatever arrives over UDP.
    pub fn set_path(&self, peer: &PublicKey, path: Path) {
        let kind = match path {
            Path::None => PathKind::None,
            Path::Direct(to) => PathKind::Direct(to),
            Path::Relay(sink) => {
                self.shared().sinks.lock().insert(*peer, sink);
                PathKind::Relay
            }
        };
        if kind != PathKind::Relay {
            self.shared().sinks.lock().remove(peer);
        }
        self.change(|node| node.set_path(Instant::now(), peer, kind));
    }

    /// Starts a handshake now; does nothing for a peer without a path.
    pub fn initiate(&self, peer: &PublicKey) {
        self.change(|node| node.initiate(peer));
    }

    /// Replaces the inbound rules; accepted connections that they no longer allow are reset.
    pub fn set_firewall(&self, rules: Vec<FirewallRule>) {
        self.change(|node| node.set_firewall(rules));
    }

    /// Tells whether the peer is known to be there. While it is not, dials and streams fail at once with
    /// `PeerOffline`. A new peer is online.
    pub fn set_peer_online(&self, peer: &PublicKey, online: bool) {
        let presence = if online {
            Presence::Online
        } else {
            Presence::Offline
        };
        self.change(|node| node.set_presence(peer, presence));
    }

    /// Takes a WireGuard datagram that the relay delivered from `peer`; dropped when the queue is full.
    pub fn receive(&self, peer: &PublicKey, datagram: Bytes) {
        self.shared().push_relayed(Relayed {
            peer: *peer,
            datagram,
        });
    }

    /// Tells that a relay transport which said "full" has room again.
    pub fn relay_ready(&self) {
        self.shared().kick.kick();
    }

    /// Returns the channel of UDP datagrams that are no WireGuard messages. A second call takes over from the
    /// first; datagrams are dropped while the channel is full.
    pub fn other_datagrams(&self, capacity: usize) -> mpsc::Receiver<Datagram> {
        let (sender, receiver) = mpsc::channel(capacity);
        *self.shared().others.lock() = Some(sender);
        receiver
    }

    /// Sends a UDP datagram from the WireGuard socket, for STUN and candidate probes.
    ///
    /// # Errors
    /// `NotConnected` without a socket, `WouldBlock` while it is full.
    pub fn send_raw(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let socket = self.shared().socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.try_send(to, payload)
    }

    /// Opens a connection to an overlay address; fails after `deadline` at the latest. Cancel-safe.
    pub async fn connect(&self, to: SocketAddr, deadline: Duration) -> Result<TcpStream, ConnectError> {
        let stream = self.change(|node| node.connect(Instant::now(), to, deadline))?;
        if self.shared().is_stopping() {
            return Err(ConnectError::Closed);
        }
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(TcpStream::new(stream))
    }

    /// Takes connections that peers open, as far as the inbound policy allows.
    ///
    /// # Errors
    /// `AddrInUse` when another listener has the port (or is the `AnyPort` one).
    pub fn listen(&self, spec: ListenSpec) -> io::Result<TcpListener> {
        let shared = self.shared();
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut node = shared.node.lock();
        let id = node
            .listen(spec.into())
            .map_err(|error| io::Error::new(io::ErrorKind::AddrInUse, error))?;
        shared.acceptors.lock().insert(id, sender);
        drop(node);
        Ok(TcpListener::new(id, receiver, Arc::clone(shared)))
    }

    /// News about peers. Slow readers lag and lose the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared().events.subscribe()
    }

    /// Counters of a peer.
    pub fn peer_stats(&self, peer: &PublicKey) -> Option<PeerStats> {
        self.shared().node.lock().peer_stats(peer)
    }

    /// Counters of the whole node.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared().node.lock().stats();
        stats.dropped += self.shared().dropped.load(Ordering::Relaxed);
        stats
    }

    /// Resets every connection and stops the driver; returns when it is done.
    pub async fn shutdown(&self) {
        self.shared().stop();
        self.shared().done.cancelled().await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Changes the node and lets the driver notice.
    fn change<T>(&self, change: impl FnOnce(&mut Node) -> T) -> T {
        let result = change(&mut self.shared().node.lock());
        self.shared().kick.kick();
        result
    }
}
