//! The one type a shell drives.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::batch::TxBatch;
use crate::connection::Stream;
use crate::device::peer::{Peer, PeerId};
use crate::device::{Device, Inner};
use crate::kick::Kick;
use crate::stack::Stack;
use crate::stack::listeners::{ListenOn, ListenerId, PortInUse};
use crate::stack::packet::Packet;
use crate::{
    ConnectError, Event, Failure, Firewall, FirewallRule, NodeConfig, PathKind, PeerConfig, PeerStats,
    PublicKey, Silence, Source, Stats,
};

/// Largest UDP datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Limits of the inner packet size.
const MTU_RANGE: std::ops::RangeInclusive<u16> = 576..=1500;
/// Events nobody took; beyond this the oldest is forgotten.
const MAX_EVENTS: usize = 1024;

/// A WireGuard node with a TCP stack on its inner side.
///
/// The crate's documentation has the contract. Every call is one mutation; what it causes waits in
/// [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event) and [`poll_accept`](Self::poll_accept).
#[derive(Debug)]
pub struct Node {
    device: Device,
    stack: Stack,
    silence: Silence,
    rng: StdRng,
    events: VecDeque<Event>,
    initiations: Vec<PeerId>,
    retired: Vec<PeerId>,
    plain: Vec<u8>,
    stats: Stats,
}

/// Outcome of [`Node::poll_transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more to send for now.
    Done,
    /// The batch is full: send it, clear it, poll again.
    BatchFull,
}

impl Node {
    /// Makes a node without peers. All randomness comes from `seed`, except the key exchange's own.
    pub fn new(mut config: NodeConfig, now: Instant, seed: [u8; 32]) -> Self {
        config.mtu = config.mtu.clamp(*MTU_RANGE.start(), *MTU_RANGE.end());
        let mut rng = StdRng::from_seed(seed);
        Self {
            device: Device::new(&config.private_key, now),
            stack: Stack::new(&config, now, &mut rng),
            silence: config.silence,
            rng,
            events: VecDeque::new(),
            initiations: Vec::new(),
            retired: Vec::new(),
            plain: vec![0; MAX_DATAGRAM],
            stats: Stats::default(),
        }
    }

    /// Our public key.
    pub fn public_key(&self) -> PublicKey {
        self.device.public_key()
    }

    /// What owners of streams use to ask for a turn; the shell waits on it.
    pub fn kick(&self) -> Arc<Kick> {
        Arc::clone(self.stack.kick())
    }

    /// Takes a WireGuard datagram. The batch must have room: [`TxBatch::has_room`].
    pub fn handle_datagram(&mut self, now: Instant, source: Source, datagram: &[u8], batch: &mut TxBatch) {
        self.stats.rx_datagrams += 1;
        self.stats.rx_bytes += datagram.len() as u64;
        let before = (batch.len(), batch.bytes());
        let known = self.events.len();
        let inner =
            self.device
                .handle_datagram(now, source, datagram, &mut self.plain, batch, &mut self.events);
        for event in self.events.range(known..) {
            if let Event::HandshakeCompleted { peer } = event
                && let Some(id) = self.device.id(peer)
            {
                self.stack.doubt_peer(now, id);
            }
        }
        match inner {
            Inner::Packet(peer, len) => self.handle_inner(now, peer, len, batch),
            Inner::Nothing => {}
            Inner::Rejected => self.stats.rx_rejected += 1,
            Inner::Spoofed => self.stats.rx_spoofed += 1,
        }
        self.count_sent(before, batch);
        self.bound_events();
    }

    /// Runs timers. The batch must have room.
    pub fn handle_timeout(&mut self, now: Instant, batch: &mut TxBatch) {
        let before = (batch.len(), batch.bytes());
        let ticked = self.device.handle_timeout(now, batch);
        for silent in ticked.silent {
            if let Some(peer) = self.device.peer(silent) {
                self.events.push_back(Event::PeerSilent { peer: peer.key() });
            }
            self.stack.silence_peer(silent, self.silence);
        }
        if ticked.happened {
            self.stack.probe_doubted();
        }
        for (peer, quiet) in ticked.quiet {
            self.stack.probe(now, peer, quiet);
        }
        self.stack.handle_timeout(now);
        self.count_sent(before, batch);
        self.bound_events();
    }

    /// Fills the batch with what connections and peers want to send.
    pub fn poll_transmit(&mut self, now: Instant, batch: &mut TxBatch) -> Progress {
        let before = (batch.len(), batch.bytes());
        while batch.has_room()
            && let Some(id) = self.initiations.pop()
        {
            if let Some(peer) = self.device.peer_mut(id) {
                peer.initiate(now, batch);
            }
        }
        let done = self.stack.poll_transmit(now, &mut self.device, batch);
        self.count_sent(before, batch);
        if !done {
            return Progress::BatchFull;
        }
        for id in self.retired.drain(..) {
            self.device.forget(id);
        }
        Progress::Done
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.device.poll_timeout(), self.stack.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next connection that a peer opened, and the listener it came to.
    pub fn poll_accept(&mut self) -> Option<(ListenerId, Stream)> {
        self.stack.poll_accept()
    }

    /// Opens a connection. It fails by itself after `deadline` without an answer. Without a path it waits for one.
    pub fn connect(
        &mut self,
        now: Instant,
        to: SocketAddr,
        deadline: Duration,
    ) -> Result<Stream, ConnectError> {
        let peer = self.device.route(to.ip()).ok_or(ConnectError::NoPeer)?;
        if !peer.is_online() {
            return Err(ConnectError::PeerOffline);
        }
        if peer.path() == PathKind::None {
            self.events.push_back(Event::PathWanted { peer: peer.key() });
        }
        self.stack.connect(now, peer, to, deadline, &mut self.rng)
    }

    /// Opens ports.
    pub fn listen(&mut self, on: ListenOn) -> Result<ListenerId, PortInUse> {
        self.stack.listeners.add(on)
    }

    /// Closes a listener's ports; its connections live on.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.stack.listeners.remove(listener);
    }

    /// Replaces our addresses; connections from one that is gone fail.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.stack.set_addresses(addresses);
    }

    /// Replaces the inbound rules; accepted connections that they no longer allow fail.
    pub fn set_firewall(&mut self, rules: Vec<FirewallRule>) {
        self.stack.set_firewall(Firewall::new(rules));
    }

    /// Adds a peer or changes it; its path stays, its sessions too unless the pre-shared key changed. Connections to
    /// addresses that it no longer has fail.
    pub fn upsert_peer(&mut self, now: Instant, config: PeerConfig) {
        self.device.upsert(config, now, &mut self.rng);
        let device = &self.device;
        self.stack
            .fail_unrouted(|address| device.route(address).map(Peer::id));
    }

    /// Removes a peer; its connections are reset.
    pub fn remove_peer(&mut self, key: &PublicKey) {
        if let Some(id) = self.device.retire(key) {
            self.stack.fail_peer(id, Failure::PeerOffline);
            self.retired.push(id);
        }
    }

    /// Sets how packets reach the peer.
    pub fn set_path(&mut self, now: Instant, key: &PublicKey, path: PathKind) {
        if let Some(id) = self.device.id(key)
            && let Some(peer) = self.device.peer_mut(id)
        {
            peer.set_path(now, path);
            self.stack.mark_peer(id);
        }
    }

    /// Holds the peer's connections back while its path's queue is full.
    pub fn set_path_full(&mut self, key: &PublicKey, fullness: Fullness) {
        if let Some(id) = self.device.id(key)
            && let Some(peer) = self.device.peer_mut(id)
        {
            peer.set_blocked(fullness == Fullness::Full);
            if fullness == Fullness::HasRoom {
                self.stack.mark_peer(id);
            }
        }
    }

    /// Says whether the peer is known to be there; while it is not, its dials and streams fail.
    pub fn set_presence(&mut self, key: &PublicKey, presence: Presence) {
        if let Some(id) = self.device.id(key)
            && let Some(peer) = self.device.peer_mut(id)
        {
            peer.set_online(presence == Presence::Online);
            if presence == Presence::Offline {
                self.stack.fail_peer(id, Failure::PeerOffline);
            }
        }
    }

    /// Starts a handshake at the next turn.
    pub fn initiate(&mut self, key: &PublicKey) {
        if let Some(id) = self.device.id(key)
            && !self.initiations.contains(&id)
        {
            self.initiations.push(id);
        }
    }

    /// Resets every connection; the resets leave with the next turns.
    pub fn abort_all(&mut self) {
        self.stack.fail_all(Failure::Aborted);
    }

    /// Counters of a peer.
    pub fn peer_stats(&self, key: &PublicKey) -> Option<PeerStats> {
        self.device
            .id(key)
            .and_then(|id| self.device.peer(id))
            .map(Peer::stats)
    }

    /// Counters of the node.
    pub fn stats(&self) -> Stats {
        Stats {
            inbound_refused: self.stack.refused(),
            connections: self.stack.len(),
            half_open: self.stack.half_open(),
            timers: self.stack.timers(),
            peers: self.device.len(),
            ..self.stats
        }
    }

    fn handle_inner(&mut self, now: Instant, peer: PeerId, len: usize, batch: &mut TxBatch) {
        let (Some(packet), Some(peer)) = (
            self.plain.get(..len).and_then(Packet::parse),
            self.device.peer_mut(peer),
        ) else {
            self.stats.rx_rejected += 1;
            return;
        };
        if !self.stack.addresses.contains(&packet.destination) {
            self.stats.rx_spoofed += 1;
            return;
        }
        self.stack.handle_packet(now, peer, &packet, batch, &mut self.rng);
    }

    fn count_sent(&mut self, (datagrams, bytes): (usize, usize), batch: &TxBatch) {
        self.stats.tx_datagrams += (batch.len() - datagrams) as u64;
        self.stats.tx_bytes += (batch.bytes() - bytes) as u64;
    }

    fn bound_events(&mut self) {
        while self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }
}

/// Whether a path's queue takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fullness {
    /// It takes more.
    HasRoom,
    /// It takes nothing now.
    Full,
}

/// Whether a peer is known to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is, or nobody knows better.
    Online,
    /// It is not.
    Offline,
}
