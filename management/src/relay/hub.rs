//! Who is connected to the relay, and who wants to know of whom.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use meshgate_proto::Clock;
use meshgate_proto::relay::{Frame, MAX_PEERS, PeerHash, RelayKey};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::websocket;

/// Locks over which peers are spread.
const SHARDS: usize = 64;
/// Datagrams that wait for one peer.
const DATAGRAM_QUEUE: usize = 1024;
/// Control frames that wait for one peer.
const CONTROL_QUEUE: usize = 256;
/// Peers that one connection may ask about; more than an overlay network of any use holds.
const MAX_WATCHED: usize = 16_384;

/// The directory of the relay. Cheap to clone.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    key: RelayKey,
    clock: Arc<dyn Clock>,
    instance_url: String,
    shards: Vec<RwLock<Shard>>,
    hasher: RandomState,
    next_id: AtomicU64,
    lost: AtomicU64,
    stopping: CancellationToken,
    tracker: TaskTracker,
}

/// Both sides of presence for the peers of one shard, under one lock so that nobody misses a change.
#[derive(Default)]
struct Shard {
    online: HashMap<PeerHash, Arc<Connection>>,
    watchers: HashMap<PeerHash, HashMap<u64, Watcher>>,
}

struct Watcher {
    connection: Arc<Connection>,
    /// Said once: an interest in somebody coming online is used up by the news.
    tell_online: bool,
}

/// One connected peer.
pub(super) struct Connection {
    id: u64,
    pub(super) peer: PeerHash,
    datagrams: mpsc::Sender<Bytes>,
    control: mpsc::Sender<Bytes>,
    pub(super) closed: CancellationToken,
    watched: Mutex<HashSet<PeerHash>>,
}

/// The receiving ends of a connection's queues; messages are framed already.
pub(super) struct Queues {
    pub(super) datagrams: mpsc::Receiver<Bytes>,
    pub(super) control: mpsc::Receiver<Bytes>,
}

/// Numbers of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayStats {
    /// Connected peers.
    pub connected: usize,
    /// Datagrams dropped because their receiver was too slow.
    pub lost: u64,
}

impl Relay {
    /// A relay that nobody is connected to. Peers compare `instance_url` byte for byte.
    pub fn new(key: RelayKey, instance_url: String, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            key,
            clock,
            instance_url,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            next_id: AtomicU64::new(1),
            lost: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }))
    }

    /// Canonical URL of this relay.
    pub fn instance_url(&self) -> &str {
        &self.0.instance_url
    }

    /// Numbers of this moment.
    pub fn stats(&self) -> RelayStats {
        RelayStats {
            connected: self.0.shards.iter().map(|shard| shard.read().online.len()).sum(),
            lost: self.0.lost.load(Ordering::Relaxed),
        }
    }

    /// Who is connected.
    pub fn peers(&self) -> Vec<PeerHash> {
        let shards = self.0.shards.iter();
        shards
            .flat_map(|shard| shard.read().online.keys().copied().collect::<Vec<_>>())
            .collect()
    }

    /// Ends the connection of a peer that may not be here any more.
    pub fn disconnect(&self, peer: &PeerHash) {
        if let Some(connection) = self.find(peer) {
            connection.closed.cancel();
        }
    }

    /// Says goodbye to everybody and waits until all connections have ended.
    pub async fn shutdown(&self) {
        self.0.stopping.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// True when the token opens the relay now.
    pub(super) fn admits(&self, token: &[u8]) -> bool {
        self.0.key.check(token, self.0.clock.now()).is_ok()
    }

    /// Makes a peer known, in place of an older connection of the same name, and tells who waits for it.
    pub(super) fn register(&self, peer: PeerHash) -> (Arc<Connection>, Queues) {
        let (datagrams, datagrams_out) = mpsc::channel(DATAGRAM_QUEUE);
        let (control, control_out) = mpsc::channel(CONTROL_QUEUE);
        let connection = Arc::new(Connection {
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            peer,
            datagrams,
            control,
            closed: CancellationToken::new(),
            watched: Mutex::default(),
        });
        connection.send_control(&Frame::AuthResponse {
            instance_url: self.0.instance_url.clone(),
        });
        let mut shard = self.shard(&peer).write();
        let older = shard.online.insert(peer, Arc::clone(&connection));
        for watcher in shard
            .watchers
            .get_mut(&peer)
            .into_iter()
            .flat_map(HashMap::values_mut)
        {
            if std::mem::take(&mut watcher.tell_online) {
                watcher.connection.send_control(&Frame::PeersOnline(vec![peer]));
            }
        }
        drop(shard);
        if let Some(older) = older {
            older.closed.cancel();
        }
        let queues = Queues {
            datagrams: datagrams_out,
            control: control_out,
        };
        (connection, queues)
    }

    /// Forgets a connection and tells who watches its peer, unless a newer one has taken its place.
    pub(super) fn unregister(&self, connection: &Connection) {
        connection.closed.cancel();
        let watched = std::mem::take(&mut *connection.watched.lock());
        for peer in &watched {
            self.unwatch(connection, peer);
        }
        let mut shard = self.shard(&connection.peer).write();
        if shard
            .online
            .get(&connection.peer)
            .is_none_or(|now| now.id != connection.id)
        {
            return;
        }
        shard.online.remove(&connection.peer);
        for watcher in shard
            .watchers
            .get(&connection.peer)
            .into_iter()
            .flat_map(HashMap::values)
        {
            let news = Frame::PeersWentOffline(vec![connection.peer]);
            watcher.connection.send_control(&news);
        }
    }

    /// Starts to watch peers. Those that are online are told of at once.
    pub(super) fn subscribe(&self, connection: &Arc<Connection>, peers: &[PeerHash]) {
        let mut online = Vec::new();
        for peer in peers {
            {
                let mut watched = connection.watched.lock();
                if watched.len() >= MAX_WATCHED && !watched.contains(peer) {
                    connection.closed.cancel();
                    return;
                }
                watched.insert(*peer);
            }
            let mut shard = self.shard(peer).write();
            let is_online = shard.online.contains_key(peer);
            let watcher = Watcher {
                connection: Arc::clone(connection),
                tell_online: !is_online,
            };
            shard
                .watchers
                .entry(*peer)
                .or_default()
                .insert(connection.id, watcher);
            if is_online {
                online.push(*peer);
            }
        }
        if !online.is_empty() {
            connection.send_control(&Frame::PeersOnline(online));
        }
    }

    /// Stops to watch peers.
    pub(super) fn unsubscribe(&self, connection: &Connection, peers: &[PeerHash]) {
        for peer in peers {
            if connection.watched.lock().remove(peer) {
                self.unwatch(connection, peer);
            }
        }
    }

    /// What a peer is told last when the relay ends.
    pub(super) fn farewell(&self, connection: &Connection) -> Vec<Frame> {
        let watched: Vec<PeerHash> = connection.watched.lock().iter().copied().collect();
        let online: Vec<PeerHash> = watched
            .into_iter()
            .filter(|peer| self.find(peer).is_some())
            .collect();
        online
            .chunks(MAX_PEERS)
            .map(|peers| Frame::PeersWentOffline(peers.to_vec()))
            .chain([Frame::Close])
            .collect()
    }

    /// Queues a framed datagram for a peer. `last` remembers the receiver of the caller's last datagram, so that
    /// a run of datagrams to one peer looks it up once.
    pub(super) fn deliver(&self, to: &PeerHash, last: &mut Option<Arc<Connection>>, framed: Bytes) {
        let mut framed = framed;
        if let Some(receiver) = last.as_ref().filter(|receiver| receiver.peer == *to) {
            match receiver.datagrams.try_send(framed) {
                Ok(()) => return,
                Err(TrySendError::Full(_)) => return self.count_loss(),
                Err(TrySendError::Closed(refused)) => framed = refused,
            }
        }
        *last = self.find(to);
        if let Some(receiver) = last
            && receiver.datagrams.try_send(framed).is_err()
        {
            self.count_loss();
        }
    }

    fn count_loss(&self) {
        self.0.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn unwatch(&self, connection: &Connection, peer: &PeerHash) {
        let mut shard = self.shard(peer).write();
        if let Some(watchers) = shard.watchers.get_mut(peer) {
            watchers.remove(&connection.id);
            if watchers.is_empty() {
                shard.watchers.remove(peer);
            }
        }
    }

    fn find(&self, peer: &PeerHash) -> Option<Arc<Connection>> {
        self.shard(peer).read().online.get(peer).map(Arc::clone)
    }

    fn shard(&self, peer: &PeerHash) -> &RwLock<Shard> {
        let hash = self.0.hasher.hash_one(peer);
        let index = usize::try_from(hash % SHARDS as u64).expect("the number of shards is small");
        &self.0.shards[index]
    }
}

impl Connection {
    fn send_control(&self, frame: &Frame) {
        self.send_framed(websocket::binary(&frame.encode()));
    }

    /// Queues a control message; a peer that leaves even these lying is disconnected.
    pub(super) fn send_framed(&self, message: Bytes) {
        if self.control.try_send(message).is_err() {
            self.closed.cancel();
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("instance_url", &self.0.instance_url)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
