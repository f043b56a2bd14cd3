//! TCP for one node: demultiplexing, the dirty list and the timer heap of all connections.
//!
//! A packet costs one hash look-up, a turn of the driver costs as much as there are connections with work, a timer
//! costs one heap operation. Timers in the heap are never removed early: an entry that its connection no longer
//! expects is skipped when it comes up.

pub(crate) mod four_tuple;
pub(crate) mod link;
pub(crate) mod listeners;
pub(crate) mod packet;
pub(crate) mod reply;
pub(crate) mod tcp;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rustc_hash::{FxHashMap, FxHashSet, FxSeededState};

use crate::batch::TxBatch;
use crate::config::Silence;
use crate::connection::{Connection, ConnectionId, State, Stream};
use crate::device::Device;
use crate::device::liveness::PROBE_AFTER;
use crate::device::peer::{Peer, PeerId};
use crate::kick::Kick;
use crate::{Buffers, ConnectError, Failure, Firewall, Flow, Inbound, Protocol, Verdict};
use four_tuple::{FourTuple, Quarantine, draw_port};
use link::{Link, SCRATCH};
use listeners::{ListenerId, Listeners};
use packet::{Packet, Segment, Transport};
use tcp::{Phase, Setup, Tcp};

/// Connections that others began and that are not established yet.
const MAX_HALF_OPEN: usize = 1024;
/// Connections that are established and that nobody took yet.
const MAX_BACKLOG: usize = 1024;
/// How long a connection may stay half open.
const HALF_OPEN_TIME: Duration = Duration::from_secs(30);
/// How long a connection may take to end after its owner dropped it.
const LINGER_TIME: Duration = Duration::from_secs(60);
/// Received bytes after which a connection gets a turn before the batch is through, so that the sender's
/// acknowledgement clock keeps ticking.
const ACK_EVERY: usize = 48 << 10;
/// A connection that did not move data for so long is probed more rarely.
const RECENT: Duration = Duration::from_secs(60);
/// Quiet time after which even an idle connection is probed.
const PROBE_IDLE_AFTER: Duration = Duration::from_secs(15);
/// Shortest time between two turns that a timer asks for.
const TIMER_GRANULARITY: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Stack {
    epoch: Instant,
    mtu: u16,
    buffers: Buffers,
    inbound: Inbound,
    pub(crate) addresses: Vec<IpAddr>,
    firewall: Firewall,
    pub(crate) listeners: Listeners,
    connections: FxHashMap<ConnectionId, Entry>,
    flows: std::collections::HashMap<FourTuple, ConnectionId, FxSeededState>,
    by_peer: FxHashMap<PeerId, FxHashSet<ConnectionId>>,
    dirty: VecDeque<ConnectionId>,
    marked: Vec<ConnectionId>,
    timers: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    quarantine: Quarantine,
    backlog: VecDeque<(ListenerId, Stream)>,
    half_open: usize,
    kick: Arc<Kick>,
    next_id: u64,
    scratch: Box<[u8; SCRATCH]>,
    reply: Vec<u8>,
    refused: u64,
}

#[derive(Debug)]
struct Entry {
    connection: Arc<Connection>,
    peer: PeerId,
    tuple: FourTuple,
    stage: Stage,
    origin: Origin,
    dirty: bool,
    scheduled: Option<Instant>,
    deadline: Option<Instant>,
    received: usize,
    last_data: Instant,
    remote_finished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialing,
    HalfOpen(ListenerId),
    Established,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Ours,
    Theirs,
}

/// What a connection just did, which tells why it may have closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Received,
    Sent,
}

impl Stack {
    pub(crate) fn new(config: &crate::NodeConfig, epoch: Instant, rng: &mut StdRng) -> Self {
        let seed = usize::try_from(rng.random::<u32>()).unwrap_or(0);
        Self {
            epoch,
            mtu: config.mtu,
            buffers: config.buffers,
            inbound: config.inbound,
            addresses: config.addresses.clone(),
            firewall: Firewall::default(),
            listeners: Listeners::default(),
            connections: FxHashMap::default(),
            flows: std::collections::HashMap::with_hasher(FxSeededState::with_seed(seed)),
            by_peer: FxHashMap::default(),
            dirty: VecDeque::new(),
            marked: Vec::new(),
            timers: BinaryHeap::new(),
            quarantine: Quarantine::default(),
            backlog: VecDeque::new(),
            half_open: 0,
            kick: Arc::default(),
            next_id: 0,
            scratch: Box::new([0; SCRATCH]),
            reply: Vec::new(),
            refused: 0,
        }
    }

    pub(crate) fn kick(&self) -> &Arc<Kick> {
        &self.kick
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Opens a connection to a peer.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        peer: &Peer,
        remote: SocketAddr,
        deadline: Duration,
        rng: &mut StdRng,
    ) -> Result<Stream, ConnectError> {
        let address = self
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == remote.is_ipv4());
        let address = *address.ok_or(ConnectError::NoPeer)?;
        let port = draw_port(rng, |port| {
            let tuple = FourTuple {
                local: SocketAddr::new(address, port),
                remote,
            };
            !self.flows.contains_key(&tuple) && !self.quarantine.contains(now, &tuple)
        });
        let local = SocketAddr::new(address, port.ok_or(ConnectError::PortsExhausted)?);
        let setup = Setup {
            local,
            remote,
            mtu: self.mtu,
            buffers: self.buffers,
            seed: rng.random(),
        };
        let tcp = Tcp::connect(&setup).ok_or(ConnectError::NoPeer)?;
        let connection = self.insert(now, peer, &setup, tcp, Stage::Dialing, Origin::Ours, deadline);
        Ok(Stream::new(connection))
    }

    /// Takes an inner packet whose source was checked to be `peer`'s.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        peer: &mut Peer,
        packet: &Packet<'_>,
        batch: &mut TxBatch,
        rng: &mut StdRng,
    ) {
        match packet.transport {
            Transport::Tcp(segment) => {
                let tuple = FourTuple {
                    local: packet.local(&segment),
                    remote: packet.remote(&segment),
                };
                match self.flows.get(&tuple) {
                    Some(id) => self.handle_segment(now, *id, peer, packet, &segment, batch),
                    None => self.handle_stray(now, tuple, peer, packet, &segment, batch, rng),
                }
            }
            Transport::Icmp(at) => {
                let flow = Flow {
                    source: packet.source,
                    protocol: Protocol::Icmp,
                    port: 0,
                };
                if self.admits(flow) && reply::echo(packet, at, &mut self.reply) {
                    self.send_reply(now, peer, batch);
                }
            }
            Transport::Other => self.refused += 1,
        }
    }

    /// Gives a turn to every connection that wants one; `false` when the batch is full before that.
    pub(crate) fn poll_transmit(&mut self, now: Instant, device: &mut Device, batch: &mut TxBatch) -> bool {
        let mut marked = std::mem::take(&mut self.marked);
        self.kick.take_marked(&mut marked);
        for id in marked.drain(..) {
            self.mark(id);
        }
        self.marked = marked;
        while batch.has_egress_room() {
            let Some(id) = self.dirty.pop_front() else {
                return true;
            };
            let peer = self
                .connections
                .get(&id)
                .and_then(|entry| device.peer_mut(entry.peer));
            self.turn(now, id, peer, batch);
        }
        self.dirty.is_empty()
    }

    /// Marks the connections whose timers are due, and fails those whose deadline passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(entry) = self
                .connections
                .get_mut(&id)
                .filter(|entry| entry.scheduled == Some(at))
            else {
                continue;
            };
            entry.scheduled = None;
            if entry.deadline.is_some_and(|deadline| deadline <= now) {
                entry.connection.lock().fail(Failure::TimedOut);
            }
            self.mark(id);
        }
    }

    /// When [`Stack::handle_timeout`] wants to run.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The next connection that somebody opened to us.
    pub(crate) fn poll_accept(&mut self) -> Option<(ListenerId, Stream)> {
        self.backlog.pop_front()
    }

    /// Gives every connection of the peer a turn: it can be sent to again.
    pub(crate) fn mark_peer(&mut self, peer: PeerId) {
        for id in self.of_peer(peer) {
            self.mark(id);
        }
    }

    /// The peer is gone.
    pub(crate) fn fail_peer(&mut self, peer: PeerId, failure: Failure) {
        for id in self.of_peer(peer) {
            self.fail(id, failure);
        }
    }

    /// The peer does not answer.
    pub(crate) fn silence_peer(&mut self, peer: PeerId, silence: Silence) {
        for id in self.of_peer(peer) {
            let dialing = self
                .connections
                .get(&id)
                .is_some_and(|entry| entry.stage == Stage::Dialing);
            if dialing || silence == Silence::FailStreams {
                self.fail(id, Failure::PeerOffline);
            }
        }
    }

    pub(crate) fn fail_all(&mut self, failure: Failure) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.fail(id, failure);
        }
    }

    /// Replaces our addresses; connections from one that is gone fail.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
        let gone = |entry: &Entry| !self.addresses.contains(&entry.tuple.local.ip());
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, entry)| gone(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.fail(id, Failure::Aborted);
        }
    }

    /// Replaces the inbound rules; connections that others opened and that are no longer allowed fail.
    pub(crate) fn set_firewall(&mut self, firewall: Firewall) {
        self.firewall = firewall;
        let denied = |entry: &Entry| {
            entry.origin == Origin::Theirs
                && !self.admits(tcp_flow(entry.tuple.remote.ip(), entry.tuple.local.port()))
        };
        let denied: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, entry)| denied(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in denied {
            self.fail(id, Failure::Aborted);
        }
    }

    /// Asks a quiet peer for a sign of life on a connection where somebody may be waiting.
    pub(crate) fn probe(&mut self, now: Instant, peer: PeerId, quiet: Duration) {
        let Some(ids) = self.by_peer.get(&peer) else {
            return;
        };
        let idle_too = quiet >= PROBE_IDLE_AFTER;
        let chosen = ids.iter().copied().find(|id| {
            self.connections.get(id).is_some_and(|entry| {
                let recent = now.saturating_duration_since(entry.last_data) < RECENT;
                entry.stage == Stage::Established && (idle_too || recent || entry.connection.is_awaiting())
            })
        });
        let Some(entry) = chosen.and_then(|id| self.connections.get(&id)) else {
            return;
        };
        entry.connection.lock().tcp.probe(PROBE_AFTER);
        let id = entry.connection.id;
        self.mark(id);
    }

    fn handle_segment(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: &mut Peer,
        packet: &Packet<'_>,
        segment: &Segment,
        batch: &mut TxBatch,
    ) {
        let Some(entry) = self
            .connections
            .get_mut(&id)
            .filter(|entry| entry.peer == peer.id())
        else {
            return;
        };
        if segment.payload_len > 0 {
            entry.last_data = now;
            entry.received += packet.bytes.len();
        }
        let due = entry.received >= ACK_EVERY;
        let connection = Arc::clone(&entry.connection);
        let mut state = connection.lock();
        let mut link = Link {
            now,
            mtu: self.mtu,
            peer,
            batch,
            scratch: &mut self.scratch,
            received: Some(packet.bytes),
        };
        state.tcp.receive(self.epoch, &mut link);
        self.observe(id, &mut state, Cause::Received);
        drop(state);
        if due {
            self.turn(now, id, Some(peer), batch);
        } else {
            self.mark(id);
        }
    }

    /// Handles a segment that belongs to no connection.
    #[expect(clippy::too_many_arguments, reason = "everything a new connection is made of")]
    fn handle_stray(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        peer: &mut Peer,
        packet: &Packet<'_>,
        segment: &Segment,
        batch: &mut TxBatch,
        rng: &mut StdRng,
    ) {
        let flags = segment.flags;
        if flags.rst() {
            return;
        }
        let opens = flags.syn() && !flags.ack() && !flags.fin();
        if !opens {
            if !self.quarantine.contains(now, &tuple) {
                reply::reset(packet, segment, &mut self.reply);
                self.send_reply(now, peer, batch);
            } else if flags.fin() {
                reply::final_ack(packet, segment, &mut self.reply);
                self.send_reply(now, peer, batch);
            }
            return;
        }
        if !self.admits(tcp_flow(packet.source, segment.destination_port)) || self.half_open >= MAX_HALF_OPEN
        {
            self.refused += 1;
            return;
        }
        let Some(listener) = self.listeners.lookup(segment.destination_port) else {
            self.refused += 1;
            reply::reset(packet, segment, &mut self.reply);
            self.send_reply(now, peer, batch);
            return;
        };

        self.quarantine.release(&tuple);
        let setup = Setup {
            local: tuple.local,
            remote: tuple.remote,
            mtu: self.mtu,
            buffers: self.buffers,
            seed: rng.random(),
        };
        let Some(tcp) = Tcp::listen(&setup) else { return };
        self.half_open += 1;
        let stage = Stage::HalfOpen(listener);
        let connection = self.insert(now, peer, &setup, tcp, stage, Origin::Theirs, HALF_OPEN_TIME);
        self.handle_segment(now, connection.id, peer, packet, segment, batch);
    }

    #[expect(clippy::too_many_arguments, reason = "everything a new connection is made of")]
    fn insert(
        &mut self,
        now: Instant,
        peer: &Peer,
        setup: &Setup,
        tcp: Tcp,
        stage: Stage,
        origin: Origin,
        deadline: Duration,
    ) -> Arc<Connection> {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        let tuple = FourTuple {
            local: setup.local,
            remote: setup.remote,
        };
        let kick = Arc::clone(&self.kick);
        let connection = Arc::new(Connection::new(
            id,
            setup.local,
            setup.remote,
            peer.key(),
            kick,
            tcp,
        ));
        let entry = Entry {
            connection: Arc::clone(&connection),
            peer: peer.id(),
            tuple,
            stage,
            origin,
            dirty: false,
            scheduled: None,
            deadline: Some(now + deadline),
            received: 0,
            last_data: now,
            remote_finished: false,
        };
        self.connections.insert(id, entry);
        self.flows.insert(tuple, id);
        self.by_peer.entry(peer.id()).or_default().insert(id);
        self.mark(id);
        connection
    }

    /// Lets a connection send and schedules its next turn.
    fn turn(&mut self, now: Instant, id: ConnectionId, peer: Option<&mut Peer>, batch: &mut TxBatch) {
        let Some(entry) = self.connections.get_mut(&id) else {
            return;
        };
        entry.dirty = false;
        entry.received = 0;
        let connection = Arc::clone(&entry.connection);
        connection.unmark();
        let mut state = connection.lock();
        if state.released && state.tcp.unread() > 0 {
            state.tcp.abort();
        }
        let mut sends = false;
        if let Some(peer) = peer.filter(|peer| peer.can_transmit()) {
            let mut link = Link {
                now,
                mtu: self.mtu,
                peer,
                batch,
                scratch: &mut self.scratch,
                received: None,
            };
            state.tcp.transmit(self.epoch, &mut link);
            sends = true;
        }
        self.observe(id, &mut state, Cause::Sent);
        let full = sends && !batch.has_egress_room();
        let wants = if sends && !full {
            state.tcp.poll_at(self.epoch, now)
        } else {
            None
        };
        let phase = state.tcp.phase();
        let rests = phase == Phase::TimeWait && !full && wants.is_none_or(|at| at > now + RESTING_AFTER);
        if phase == Phase::Closed || phase == Phase::Listening || rests {
            // A batch that is full may have kept the reset from leaving; then it has to wait.
            if !(full && phase == Phase::Closed) {
                drop(state);
                self.remove(now, id);
                return;
            }
        }
        let released = state.released;
        drop(state);
        if full {
            self.mark(id);
        }
        self.schedule(now, id, wants, released);
    }

    fn schedule(&mut self, now: Instant, id: ConnectionId, wants: Option<Instant>, released: bool) {
        let Some(entry) = self.connections.get_mut(&id) else {
            return;
        };
        if released && entry.deadline.is_none() {
            entry.deadline = Some(now + LINGER_TIME);
        }
        let wants = wants.map(|at| at.max(now + TIMER_GRANULARITY));
        let next = [wants, entry.deadline].into_iter().flatten().min();
        if let Some(at) = next
            && entry.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            entry.scheduled = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Notices what changed: established, finished by the other side, or broken.
    fn observe(&mut self, id: ConnectionId, state: &mut State, cause: Cause) {
        let Some(entry) = self.connections.get_mut(&id) else {
            return;
        };
        entry.remote_finished |= state.tcp.remote_finished();
        let phase = state.tcp.phase();
        if phase == Phase::Closed {
            let failure = match (entry.stage, cause) {
                (Stage::Established, _) if entry.remote_finished => return,
                (Stage::Dialing, Cause::Received) => Failure::Refused,
                (_, Cause::Received) => Failure::Reset,
                (_, Cause::Sent) => Failure::TimedOut,
            };
            state.failure.get_or_insert(failure);
            return;
        }
        if matches!(phase, Phase::Listening | Phase::Opening) || entry.stage == Stage::Established {
            return;
        }
        let stage = std::mem::replace(&mut entry.stage, Stage::Established);
        entry.deadline = None;
        if let Stage::HalfOpen(listener) = stage {
            self.half_open -= 1;
            if self.backlog.len() < MAX_BACKLOG {
                self.backlog
                    .push_back((listener, Stream::new(Arc::clone(&entry.connection))));
            } else {
                self.refused += 1;
                state.released = true;
                state.fail(Failure::Aborted);
            }
        }
    }

    fn remove(&mut self, now: Instant, id: ConnectionId) {
        let Some(entry) = self.connections.remove(&id) else {
            return;
        };
        self.flows.remove(&entry.tuple);
        if let Some(ids) = self.by_peer.get_mut(&entry.peer) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_peer.remove(&entry.peer);
            }
        }
        match entry.stage {
            Stage::HalfOpen(_) => self.half_open -= 1,
            Stage::Dialing | Stage::Established => self.quarantine.add(now, entry.tuple),
        }
    }

    fn fail(&mut self, id: ConnectionId, failure: Failure) {
        if let Some(entry) = self.connections.get(&id) {
            entry.connection.lock().fail(failure);
            self.mark(id);
        }
    }

    fn mark(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push_back(id);
        }
    }

    fn of_peer(&self, peer: PeerId) -> Vec<ConnectionId> {
        self.by_peer
            .get(&peer)
            .map(|ids| ids.iter().copied().collect())
            .unwrap_or_default()
    }

    fn admits(&self, flow: Flow) -> bool {
        match self.inbound {
            Inbound::DenyAll => false,
            Inbound::Firewall => self.firewall.judge(flow) == Verdict::Accept,
        }
    }

    fn send_reply(&mut self, now: Instant, peer: &mut Peer, batch: &mut TxBatch) {
        let len = self.reply.len();
        if len <= usize::from(self.mtu) {
            self.scratch[..len].copy_from_slice(&self.reply);
            link::send(now, peer, &mut self.scratch, len, batch);
        }
    }
}

/// A connection that both sides finished rests once its acknowledgement left; smoltcp's own timer is longer than this.
const RESTING_AFTER: Duration = Duration::from_secs(2);

fn tcp_flow(source: IpAddr, port: u16) -> Flow {
    Flow {
        source,
        protocol: Protocol::Tcp,
        port,
    }
}
