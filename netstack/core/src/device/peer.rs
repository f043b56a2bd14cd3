//! One WireGuard peer: its tunnel, its path, its clocks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::liveness::{Due, Liveness, PROBE_AFTER};
use super::pending::Pending;
use crate::batch::{Destination, TxBatch};
use crate::noise::{Noise, Opened, Sealed};
use crate::{Event, PathKind, PeerConfig, PeerStats, PublicKey, Source};

/// A peer's number in the device; the upper 24 bits of its session indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PeerId(pub(crate) u32);

/// Age of the keys from which on a keepalive renews them instead; some peers reconnect when a handshake is older than
/// 210 s. The other side waits a little longer, so that one of the two does it.
const RENEW_AS_INITIATOR: Duration = Duration::from_mins(2);
const RENEW_AS_RESPONDER: Duration = Duration::from_secs(150);

#[derive(Debug)]
pub(crate) struct Peer {
    id: PeerId,
    config: PeerConfig,
    noise: Box<dyn Noise>,
    path: PathKind,
    online: bool,
    blocked: bool,
    liveness: Liveness,
    last_sent: Instant,
    last_handshake: Option<Instant>,
    role: Role,
    seen: Option<SocketAddr>,
    confirming: bool,
    waiting_packets: bool,
    pending: Pending,
    rx_bytes: u64,
    tx_bytes: u64,
}

impl Peer {
    pub(crate) fn new(id: PeerId, config: PeerConfig, noise: Box<dyn Noise>, now: Instant) -> Self {
        Self {
            id,
            config,
            noise,
            path: PathKind::None,
            online: true,
            blocked: false,
            liveness: Liveness::default(),
            last_sent: now,
            last_handshake: None,
            role: Role::Responder,
            seen: None,
            confirming: false,
            waiting_packets: false,
            pending: Pending::default(),
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.config.public_key
    }

    pub(crate) fn config(&self) -> &PeerConfig {
        &self.config
    }

    pub(crate) fn set_config(&mut self, config: PeerConfig) {
        self.config = config;
    }

    pub(crate) fn path(&self) -> PathKind {
        self.path
    }

    /// Moves the peer to another path, where it gets a fresh chance to answer.
    pub(crate) fn set_path(&mut self, now: Instant, path: PathKind) {
        if path != self.path {
            self.liveness.restart(now);
        }
        self.path = path;
        self.blocked = false;
        self.seen = None;
    }

    pub(crate) fn is_online(&self) -> bool {
        self.online
    }

    pub(crate) fn set_online(&mut self, online: bool) {
        self.online = online;
    }

    /// The path's queue is full: connections hold their packets.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Says whether connections may send now.
    pub(crate) fn can_transmit(&self) -> bool {
        self.path != PathKind::None && !self.blocked
    }

    /// How long nothing came from a peer that has a path and owes no answer, if that is worth a probe.
    pub(crate) fn quiet_for(&self, now: Instant) -> Option<Duration> {
        let quiet = self
            .liveness
            .quiet_for(now)
            .filter(|quiet| *quiet >= PROBE_AFTER)?;
        (self.path != PathKind::None && !self.liveness.is_waiting()).then_some(quiet)
    }

    pub(crate) fn stats(&self) -> PeerStats {
        PeerStats {
            last_handshake: self.last_handshake,
            last_received: self.liveness.last_received(),
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            path: self.path,
        }
    }

    /// Encrypts an inner packet into the batch. `demand` says that the peer must answer it.
    pub(crate) fn send(&mut self, now: Instant, packet: &[u8], demand: Demand, batch: &mut TxBatch) {
        if self.path == PathKind::None {
            return;
        }
        if demand != Demand::Nothing {
            self.liveness.on_demand(now);
        }
        let Some(slot) = batch.slot() else { return };
        match self.noise.seal(packet, slot) {
            Sealed::Data(len) => {
                if demand == Demand::Opening {
                    self.pending.keep(now, packet);
                }
                self.commit(now, len, batch);
            }
            Sealed::Initiation(len) => {
                self.waiting_packets = true;
                self.liveness.on_initiation(now);
                self.commit(now, len, batch);
            }
            Sealed::Queued => self.waiting_packets = true,
        }
    }

    /// Sends a handshake initiation now.
    pub(crate) fn initiate(&mut self, now: Instant, batch: &mut TxBatch) {
        if self.path == PathKind::None {
            return;
        }
        self.liveness.on_initiation(now);
        let Some(slot) = batch.slot() else { return };
        if let Some(len) = self.noise.initiate(slot) {
            self.commit(now, len, batch);
        }
    }

    /// Decrypts a datagram; an inner packet is left at the start of `plain`, and its length returned.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        source: Source,
        datagram: &[u8],
        plain: &mut [u8],
        batch: &mut TxBatch,
        events: &mut impl Extend<Event>,
    ) -> Received {
        let reply = match self.noise.open(source.cookie_address(), datagram, plain) {
            Opened::Packet(len) => {
                self.authenticated(now, source, datagram.len(), events);
                self.confirm(now, batch, events);
                return Received::Packet(len);
            }
            Opened::Keepalive => {
                self.authenticated(now, source, datagram.len(), events);
                self.confirm(now, batch, events);
                return Received::Nothing;
            }
            Opened::Challenge(reply) => {
                write(batch, reply, source.destination());
                return Received::Nothing;
            }
            Opened::Cookie => return Received::Nothing,
            Opened::Rejected => return Received::Rejected,
            Opened::Initiated(reply) => {
                self.confirming = true;
                reply
            }
            Opened::Responded(reply) => {
                self.complete_handshake(now, Role::Initiator, events);
                reply
            }
        };
        self.authenticated(now, source, datagram.len(), events);
        if self.path != PathKind::None
            && let Some(slot) = batch.slot()
        {
            slot[..reply.len()].copy_from_slice(reply);
            self.commit(now, reply.len(), batch);
        }
        if !self.confirming {
            self.use_session(now, batch);
        }
        Received::Nothing
    }

    /// Runs timers. Wants to be called every 250 ms.
    pub(crate) fn tick(&mut self, now: Instant, batch: &mut TxBatch) -> Option<Due> {
        if let Some(slot) = batch.slot()
            && let Some(len) = self.noise.tick(slot)
        {
            self.commit(now, len, batch);
        }
        let idle = now.saturating_duration_since(self.last_sent);
        if self.config.keepalive.is_some_and(|every| idle >= every) {
            self.last_sent = now;
            if self.keys_are_old(now) {
                self.initiate(now, batch);
            } else {
                self.send(now, &[], Demand::Nothing, batch);
            }
        }
        let due = self.liveness.poll(now)?;
        if due == Due::Initiate {
            self.initiate(now, batch);
        }
        Some(due)
    }

    /// The program stood still for `gap`.
    pub(crate) fn forgive(&mut self, gap: Duration) {
        self.liveness.forgive(gap);
    }

    /// The first packet of a session in which we are the responder proves that the handshake completed.
    fn confirm(&mut self, now: Instant, batch: &mut TxBatch, events: &mut impl Extend<Event>) {
        if self.confirming {
            self.complete_handshake(now, Role::Responder, events);
            self.use_session(now, batch);
        } else {
            self.pending.clear();
        }
    }

    fn complete_handshake(&mut self, now: Instant, role: Role, events: &mut impl Extend<Event>) {
        self.confirming = false;
        self.role = role;
        self.last_handshake = Some(now);
        events.extend([Event::HandshakeCompleted {
            peer: self.config.public_key,
        }]);
    }

    fn keys_are_old(&self, now: Instant) -> bool {
        let limit = match self.role {
            Role::Initiator => RENEW_AS_INITIATOR,
            Role::Responder => RENEW_AS_RESPONDER,
        };
        self.last_handshake
            .is_some_and(|at| now.saturating_duration_since(at) >= limit)
    }

    /// Sends what waited for a session, and what the one before may have swallowed.
    fn use_session(&mut self, now: Instant, batch: &mut TxBatch) {
        self.flush(now, batch);
        for packet in self.pending.take(now) {
            self.send(now, &packet, Demand::Answer, batch);
        }
    }

    fn flush(&mut self, now: Instant, batch: &mut TxBatch) {
        if !self.waiting_packets {
            return;
        }
        while let Some(slot) = batch.slot() {
            let Some(len) = self.noise.seal_queued(slot) else {
                self.waiting_packets = false;
                return;
            };
            self.commit(now, len, batch);
        }
    }

    fn authenticated(&mut self, now: Instant, source: Source, len: usize, events: &mut impl Extend<Event>) {
        self.rx_bytes += len as u64;
        self.liveness.on_received(now);
        let Source::Direct(from) = source else { return };
        let peer = self.config.public_key;
        match self.path {
            PathKind::Direct(current) if current == from => {}
            PathKind::Direct(_) | PathKind::None => {
                self.path = PathKind::Direct(from);
                events.extend([Event::EndpointChanged { peer, endpoint: from }]);
            }
            PathKind::Relay if self.seen == Some(from) => {}
            PathKind::Relay => {
                self.seen = Some(from);
                events.extend([Event::EndpointSeen { peer, endpoint: from }]);
            }
        }
    }

    fn commit(&mut self, now: Instant, len: usize, batch: &mut TxBatch) {
        let destination = match self.path {
            PathKind::None => return,
            PathKind::Direct(address) => Destination::Direct(address),
            PathKind::Relay => Destination::Relay(self.config.public_key),
        };
        self.last_sent = now;
        self.tx_bytes += len as u64;
        batch.commit(len, destination);
    }
}

/// Our part in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

/// Whether a packet obliges the peer to send something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    Answer,
    /// It opens a connection, too.
    Opening,
    Nothing,
}

/// Outcome of [`Peer::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Packet(usize),
    Nothing,
    Rejected,
}

impl Source {
    /// The address that a cookie is bound to. Peers behind the relay get one made of their key.
    pub(crate) fn cookie_address(&self) -> IpAddr {
        match self {
            Self::Direct(address) => address.ip(),
            Self::Relay(key) => {
                let (head, _) = key.as_bytes().split_at(16);
                IpAddr::from(<[u8; 16]>::try_from(head).expect("half of a key is 16 bytes"))
            }
        }
    }

    pub(crate) fn destination(&self) -> Destination {
        match self {
            Self::Direct(address) => Destination::Direct(*address),
            Self::Relay(key) => Destination::Relay(*key),
        }
    }
}

/// Adds a datagram that belongs to no peer's counters.
pub(crate) fn write(batch: &mut TxBatch, datagram: &[u8], destination: Destination) {
    if let Some(slot) = batch.slot() {
        slot[..datagram.len()].copy_from_slice(datagram);
        batch.commit(datagram.len(), destination);
    }
}
