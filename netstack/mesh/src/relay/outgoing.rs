//! The way out to the relay: one bounded queue, shared by all peers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use meshgate_netstack::RelayTransport;
use meshgate_proto::WgPublicKey;
use meshgate_proto::relay::{PeerHash, TRANSPORT_HEADER, VERSION};
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc};

/// Frames under way to the relay. A full queue holds the netstack back; nothing is dropped.
const QUEUE: usize = 512;
/// Type number of a TRANSPORT frame.
const TRANSPORT: u8 = 3;
/// A WireGuard datagram without content: it must not wake a parked connection.
const KEEPALIVE_LEN: usize = 32;

/// Control frames under way; far more than there ever are.
const CONTROL_QUEUE: usize = 1024;

/// The way out; closed while there is no connection.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queues: RwLock<Option<Queues>>,
    starved: AtomicBool,
}

#[derive(Debug)]
struct Queues {
    control: mpsc::Sender<Bytes>,
    datagrams: mpsc::Sender<Bytes>,
}

/// The other end of the way out, owned by a connection.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Frames about the connection itself; they go first.
    pub(crate) control: mpsc::Receiver<Bytes>,
    /// TRANSPORT frames.
    pub(crate) datagrams: mpsc::Receiver<Bytes>,
}

impl Outgoing {
    /// Opens the way for a new connection.
    pub(crate) fn open(&self) -> Drain {
        let (control, control_drain) = mpsc::channel(CONTROL_QUEUE);
        let (datagrams, datagram_drain) = mpsc::channel(QUEUE);
        *self.queues.write() = Some(Queues { control, datagrams });
        Drain {
            control: control_drain,
            datagrams: datagram_drain,
        }
    }

    /// Closes the way.
    pub(crate) fn close(&self) {
        *self.queues.write() = None;
    }

    /// Queues a control frame. Without a connection it is dropped: a new one starts afresh.
    pub(crate) fn control(&self, frame: Bytes) {
        let queues = self.queues.read();
        if let Some(queues) = queues.as_ref()
            && queues.control.try_send(frame).is_err()
        {
            tracing::warn!("Dropped a control frame: the relay takes none");
        }
    }

    /// True once after somebody found the queue full.
    pub(crate) fn take_starved(&self) -> bool {
        self.starved.swap(false, Ordering::AcqRel)
    }

    fn try_send(&self, peer: &PeerHash, datagram: &[u8]) -> bool {
        let queues = self.queues.read();
        let Some(queues) = queues.as_ref() else {
            return true;
        };
        match queues.datagrams.try_reserve() {
            Ok(room) => {
                room.send(transport_frame(peer, datagram));
                true
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                self.starved.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(())) => true,
        }
    }
}

fn transport_frame(peer: &PeerHash, datagram: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(TRANSPORT_HEADER + datagram.len());
    frame.put_u8(VERSION);
    frame.put_u8(TRANSPORT);
    frame.put_slice(peer.as_bytes());
    frame.put_slice(datagram);
    frame.freeze()
}

/// Keys of parked peers that have something to say.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    keys: parking_lot::Mutex<Vec<WgPublicKey>>,
    any: Notify,
}

impl Wakes {
    /// Waits for the next batch. Cancel-safe.
    pub(crate) async fn next(&self) -> Vec<WgPublicKey> {
        loop {
            let notified = self.any.notified();
            let keys = std::mem::take(&mut *self.keys.lock());
            if !keys.is_empty() {
                return keys;
            }
            notified.await;
        }
    }

    fn wake(&self, key: WgPublicKey) {
        let mut keys = self.keys.lock();
        if !keys.contains(&key) {
            keys.push(key);
        }
        self.any.notify_one();
    }
}

/// One peer's end of the way out.
pub(crate) struct PeerTransport {
    hash: PeerHash,
    outgoing: Arc<Outgoing>,
    /// The peer parked the connection: the first packet with content asks for it instead of leaving.
    parked: Option<(WgPublicKey, Arc<Wakes>)>,
}

impl PeerTransport {
    /// A transport that carries.
    pub(crate) fn open(hash: PeerHash, outgoing: Arc<Outgoing>) -> Self {
        Self {
            hash,
            outgoing,
            parked: None,
        }
    }

    /// A transport that wakes.
    pub(crate) fn parked(key: WgPublicKey, outgoing: Arc<Outgoing>, wakes: Arc<Wakes>) -> Self {
        Self {
            hash: PeerHash::of(&key),
            outgoing,
            parked: Some((key, wakes)),
        }
    }
}

impl fmt::Debug for PeerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTransport")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl RelayTransport for PeerTransport {
    fn try_send(&self, datagram: &[u8]) -> bool {
        match &self.parked {
            None => self.outgoing.try_send(&self.hash, datagram),
            Some((key, wakes)) => {
                if datagram.len() > KEEPALIVE_LEN {
                    wakes.wake(*key);
                }
                true
            }
        }
    }
}
