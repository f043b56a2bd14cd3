//! What the handles and the driver share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use meshgate_netstack_core::{Event, Kick, ListenerId, Node, PublicKey};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::udp::UdpTransport;
use crate::{Datagram, Incoming, RelaySink};

/// Events that a slow subscriber may be behind.
const EVENTS: usize = 256;
/// Relayed datagrams waiting for the driver, in bytes; more are dropped.
const RELAY_INPUT_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: Mutex<Node>,
    pub(crate) kick: Arc<Kick>,
    pub(crate) socket: Option<UdpTransport>,
    pub(crate) sinks: Mutex<FxHashMap<PublicKey, RelaySink>>,
    pub(crate) acceptors: Mutex<FxHashMap<ListenerId, mpsc::Sender<Incoming>>>,
    pub(crate) others: Mutex<Option<mpsc::Sender<Datagram>>>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) dropped: AtomicU64,
    pub(crate) done: CancellationToken,
    relay_input: Mutex<RelayInput>,
    removed: Mutex<Vec<PublicKey>>,
    stopping: AtomicBool,
}

/// A WireGuard datagram that came through the relay.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) peer: PublicKey,
    pub(crate) datagram: Bytes,
}

#[derive(Debug, Default)]
struct RelayInput {
    queue: VecDeque<Relayed>,
    bytes: usize,
}

impl Shared {
    pub(crate) fn new(node: Node, socket: Option<UdpTransport>) -> Self {
        Self {
            kick: node.kick(),
            node: Mutex::new(node),
            socket,
            sinks: Mutex::default(),
            acceptors: Mutex::default(),
            others: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            dropped: AtomicU64::new(0),
            done: CancellationToken::new(),
            relay_input: Mutex::default(),
            removed: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Queues a relayed datagram, or drops it when the driver is too far behind.
    pub(crate) fn push_relayed(&self, relayed: Relayed) {
        let mut input = self.relay_input.lock();
        let len = relayed.datagram.len();
        if input.bytes + len > RELAY_INPUT_BYTES || self.is_stopping() {
            drop(input);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        input.bytes += len;
        input.queue.push_back(relayed);
        drop(input);
        self.kick.kick();
    }

    pub(crate) fn take_relayed(&self) -> VecDeque<Relayed> {
        let mut input = self.relay_input.lock();
        input.bytes = 0;
        std::mem::take(&mut input.queue)
    }

    /// Notes a removed peer; what its last packets need is kept until they left.
    pub(crate) fn push_removed(&self, peer: PublicKey) {
        self.removed.lock().push(peer);
    }

    pub(crate) fn take_removed(&self) -> Vec<PublicKey> {
        std::mem::take(&mut self.removed.lock())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks the driver to reset everything and end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.kick.kick();
    }
}
