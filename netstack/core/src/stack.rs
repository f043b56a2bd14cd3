//! TCP for one node: demultiplexing, the dirty list and the timer heap of all connections.
//!
//! A packet costs one hash look-up, a turn of the driver costs as much as there are connections with work, a timer
//! costs one heap operation. Timers in the heap are never removed early: an entry that its connection no longer
//! expects is skipped when it comes up.

mod cooling;
pub(crate) mod four_tuple;
pub(crate) mod link;
pub(crate) mod listeners;
pub(crate) mod packet;
mod peers;
mod receive;
mod reply;
mod turn;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rustc_hash::{FxHashMap, FxHashSet, FxSeededState};

use crate::connection::{Connection, ConnectionId, Stream};
use crate::device::peer::{Peer, PeerId};
use crate::kick::Kick;
use crate::tcp::{Setup, Tcp};
use crate::{Buffers, ConnectError, Failure, Firewall, Inbound, NodeConfig};
use cooling::Cooling;
use four_tuple::{Ending, FourTuple, Quarantine, draw_port};
use link::SCRATCH;
use listeners::{ListenerId, Listeners};

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
    flows: HashMap<FourTuple, ConnectionId, FxSeededState>,
    by_peer: FxHashMap<PeerId, FxHashSet<ConnectionId>>,
    dirty: VecDeque<ConnectionId>,
    marked: Vec<ConnectionId>,
    timers: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    cooling: Cooling,
    /// Connections that have to be probed because their peer may have forgotten them.
    doubted: VecDeque<ConnectionId>,
    quarantine: Quarantine,
    backlog: VecDeque<(ListenerId, Stream)>,
    half_open: FxHashMap<PeerId, usize>,
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
    /// Its owner is gone, and so many bytes had not arrived when its deadline was set.
    lingering: Option<usize>,
    received: usize,
    last_data: Instant,
    remote_finished: bool,
    /// It stands in the list of doubted ones, since then.
    doubted: Option<Instant>,
    last_turn: Instant,
    /// It will be looked at once it has been quiet.
    cooling: bool,
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

impl Stack {
    pub(crate) fn new(config: &NodeConfig, epoch: Instant, rng: &mut StdRng) -> Self {
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
            flows: HashMap::with_hasher(FxSeededState::with_seed(seed)),
            by_peer: FxHashMap::default(),
            dirty: VecDeque::new(),
            marked: Vec::new(),
            timers: BinaryHeap::new(),
            cooling: Cooling::default(),
            doubted: VecDeque::new(),
            quarantine: Quarantine::default(),
            backlog: VecDeque::new(),
            half_open: FxHashMap::default(),
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

    pub(crate) fn half_open(&self) -> usize {
        self.half_open.values().sum()
    }

    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
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
            sequence: rng.random(),
        };
        let tcp = Tcp::connect(&setup).ok_or(ConnectError::NoPeer)?;
        let connection = self.insert(now, peer, &setup, tcp, Stage::Dialing, Origin::Ours, deadline);
        Ok(Stream::new(connection))
    }

    /// The next connection that somebody opened to us.
    pub(crate) fn poll_accept(&mut self) -> Option<(ListenerId, Stream)> {
        self.backlog.pop_front()
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
            lingering: None,
            received: 0,
            last_data: now,
            remote_finished: false,
            doubted: None,
            last_turn: now,
            cooling: false,
        };
        self.connections.insert(id, entry);
        self.flows.insert(tuple, id);
        self.by_peer.entry(peer.id()).or_default().insert(id);
        self.mark(id);
        connection
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
            Stage::HalfOpen(_) => self.close_half_open(entry.peer),
            Stage::Dialing | Stage::Established => {
                let ending = if entry.connection.lock().is_broken() {
                    Ending::Broken
                } else {
                    Ending::Agreed
                };
                self.quarantine.add(now, entry.tuple, ending);
            }
        }
    }

    /// A half-open connection of the peer was established, or gave up.
    fn close_half_open(&mut self, peer: PeerId) {
        if let Some(count) = self.half_open.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.half_open.remove(&peer);
            }
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
}
