//! All WireGuard peers of a node: who a datagram is from, and whether its inner source is theirs.

pub(crate) mod liveness;
pub(crate) mod peer;
mod pending;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rustc_hash::FxHashMap;

use crate::allowed_ips::AllowedIps;
use crate::batch::TxBatch;
use crate::noise::{Identified, Identity, Message};
use crate::{Event, PeerConfig, PrivateKey, PublicKey, Source};
use liveness::Due;
use peer::{Peer, PeerId, Received};

/// How often the protocol's timers run.
const TICK: Duration = Duration::from_millis(250);
/// A gap between two ticks from which on we count as having stood still.
const STALL: Duration = Duration::from_secs(1);
/// Session indices keep 8 bits for the session.
const INDEX_BITS: u32 = 24;

#[derive(Debug)]
pub(crate) struct Device {
    identity: Identity,
    peers: FxHashMap<PeerId, Peer>,
    by_key: FxHashMap<PublicKey, PeerId>,
    allowed: AllowedIps<PeerId>,
    last_tick: Instant,
    last_reset: Instant,
}

/// Outcome of [`Device::handle_datagram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inner {
    /// An inner packet of so many bytes from this peer, its source checked.
    Packet(PeerId, usize),
    /// The datagram was for the device itself.
    Nothing,
    /// It was no valid message for us.
    Rejected,
    /// Its inner source belongs to somebody else.
    Spoofed,
}

/// Outcome of [`Device::handle_timeout`].
#[derive(Debug, Default)]
pub(crate) struct Ticked {
    /// The timers were due.
    pub(crate) happened: bool,
    /// Peers that do not answer.
    pub(crate) silent: Vec<PeerId>,
    /// Peers that nothing came from for so long, and that nothing is asked of.
    pub(crate) quiet: Vec<(PeerId, Duration)>,
}

impl Device {
    pub(crate) fn new(key: &PrivateKey, now: Instant) -> Self {
        Self {
            identity: Identity::new(key),
            peers: FxHashMap::default(),
            by_key: FxHashMap::default(),
            allowed: AllowedIps::new(),
            last_tick: now,
            last_reset: now,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.identity.public_key()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn id(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    pub(crate) fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// The peer that owns an inner address.
    pub(crate) fn route(&self, address: IpAddr) -> Option<&Peer> {
        self.allowed.lookup(address).and_then(|id| self.peers.get(&id))
    }

    /// Adds or changes a peer. Its sessions survive unless the pre-shared key changed.
    pub(crate) fn upsert(&mut self, config: PeerConfig, now: Instant, rng: &mut impl Rng) {
        if config.public_key == self.identity.public_key() {
            return;
        }
        let id = match self.by_key.get(&config.public_key) {
            Some(id) => *id,
            None => self.free_id(rng),
        };
        self.allowed.remove_owner(id);
        for cidr in &config.allowed_ips {
            self.allowed.insert(*cidr, id);
        }
        self.by_key.insert(config.public_key, id);
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.config().preshared_key == config.preshared_key
        {
            peer.set_config(config);
            return;
        }
        if self.peers.is_empty() {
            self.last_tick = now;
        }
        let noise = self
            .identity
            .tunnel(&config.public_key, config.preshared_key.as_ref(), id.0);
        let mut peer = Peer::new(id, config, noise, now);
        if let Some(old) = self.peers.remove(&id) {
            peer.set_path(now, old.path());
            peer.set_online(old.is_online());
        }
        self.peers.insert(id, peer);
    }

    /// Takes a peer's name and addresses; it can still be sent to until [`Device::forget`].
    pub(crate) fn retire(&mut self, key: &PublicKey) -> Option<PeerId> {
        let id = self.by_key.remove(key)?;
        self.allowed.remove_owner(id);
        Some(id)
    }

    pub(crate) fn forget(&mut self, id: PeerId) {
        self.peers.remove(&id);
    }

    /// Decrypts a datagram and checks who it claims to be from; an inner packet is left at the start of `plain`.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        source: Source,
        datagram: &[u8],
        plain: &mut [u8],
        batch: &mut TxBatch,
        events: &mut VecDeque<Event>,
    ) -> Inner {
        if datagram.len() > plain.len() {
            return Inner::Rejected;
        }
        let id = match Message::parse(datagram) {
            Some(Message::Initiation) => self.initiator(source, datagram, batch),
            Some(
                Message::Response { receiver }
                | Message::CookieReply { receiver }
                | Message::Data { receiver },
            ) => Some(PeerId(receiver >> 8)),
            None => None,
        };
        let Some(peer) = id.and_then(|id| self.peers.get_mut(&id)) else {
            return Inner::Rejected;
        };
        if let Source::Relay(key) = source
            && key != peer.key()
        {
            return Inner::Rejected;
        }

        match peer.receive(now, source, datagram, plain, batch, events) {
            Received::Packet(len) => {
                let id = peer.id();
                match plain.get(..len).and_then(source_address) {
                    Some(inner) if self.allowed.lookup(inner) == Some(id) => Inner::Packet(id, len),
                    _ => Inner::Spoofed,
                }
            }
            Received::Nothing => Inner::Nothing,
            Received::Rejected => Inner::Rejected,
        }
    }

    /// When [`Device::handle_timeout`] wants to run; never without peers.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (!self.peers.is_empty()).then(|| self.last_tick + TICK)
    }

    /// Runs every peer's timers if they are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, batch: &mut TxBatch) -> Ticked {
        let mut ticked = Ticked::default();
        let gap = now.saturating_duration_since(self.last_tick);
        if self.peers.is_empty() || gap < TICK {
            return ticked;
        }
        self.last_tick = now;
        ticked.happened = true;
        if now.saturating_duration_since(self.last_reset) >= Duration::from_secs(1) {
            self.last_reset = now;
            self.identity.reset_limit();
        }
        for peer in self.peers.values_mut() {
            if gap >= STALL {
                peer.forgive(gap);
            }
            if peer.tick(now, batch) == Some(Due::Silent) {
                ticked.silent.push(peer.id());
            }
            if let Some(quiet) = peer.quiet_for(now) {
                ticked.quiet.push((peer.id(), quiet));
            }
        }
        ticked
    }

    fn initiator(&self, source: Source, datagram: &[u8], batch: &mut TxBatch) -> Option<PeerId> {
        let slot = batch.slot()?;
        match self.identity.identify(source.cookie_address(), datagram, slot) {
            Identified::Peer(key) => self.by_key.get(&key).copied(),
            Identified::Challenge(len) => {
                batch.commit(len, source.destination());
                None
            }
            Identified::Refused => None,
        }
    }

    fn free_id(&self, rng: &mut impl Rng) -> PeerId {
        loop {
            let id = PeerId(rng.random_range(0..1 << INDEX_BITS));
            if !self.peers.contains_key(&id) {
                return id;
            }
        }
    }
}

/// The source address of an IP packet.
fn source_address(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?)),
        6 => Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?)),
        _ => None,
    }
}
