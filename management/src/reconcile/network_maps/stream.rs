//! The way of maps to one peer: a slot with room for the newest.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a peer's stream has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerUpdate {
    /// Send this map, in its wire form.
    Map(Bytes),
    /// Send this last map and end: the peer was deleted.
    Removed(Bytes),
    /// End: a newer stream of the peer has begun.
    Superseded,
}

/// Where one peer's stream takes its maps from. Dropping it detaches the peer.
#[derive(Debug)]
pub struct MapStream {
    slot: Arc<Slot>,
    publisher_gone: CancellationToken,
    _detach: DropGuard,
}

/// The other end of a [`MapStream`].
#[derive(Debug)]
pub(crate) struct MapSink {
    slot: Arc<Slot>,
    detached: CancellationToken,
    _publisher_gone: DropGuard,
}

#[derive(Debug, Default)]
struct Slot {
    newest: Mutex<Option<PeerUpdate>>,
    filled: Notify,
}

/// Both ends, with nothing in between yet.
pub(crate) fn map_stream() -> (MapSink, MapStream) {
    let slot = Arc::new(Slot::default());
    let detached = CancellationToken::new();
    let publisher_gone = CancellationToken::new();
    let stream = MapStream {
        slot: Arc::clone(&slot),
        publisher_gone: publisher_gone.clone(),
        _detach: detached.clone().drop_guard(),
    };
    let sink = MapSink {
        slot,
        detached,
        _publisher_gone: publisher_gone.drop_guard(),
    };
    (sink, stream)
}

impl MapStream {
    /// The newest update that was not taken yet; `None` when there will be none any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<PeerUpdate> {
        loop {
            if let Some(update) = self.slot.newest.lock().take() {
                return Some(update);
            }
            tokio::select! {
                biased;
                () = self.slot.filled.notified() => {}
                () = self.publisher_gone.cancelled() => return self.slot.newest.lock().take(),
            }
        }
    }
}

impl MapSink {
    /// Replaces what the stream has not taken yet.
    pub(crate) fn put(&self, update: PeerUpdate) {
        *self.slot.newest.lock() = Some(update);
        self.slot.filled.notify_one();
    }

    /// Ends when the stream is dropped.
    pub(super) fn detached(&self) -> CancellationToken {
        self.detached.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_peer_gets_the_newest_map_only() {
        let (sink, mut stream) = map_stream();

        for number in 0..100u8 {
            sink.put(PeerUpdate::Map(Bytes::from(vec![number])));
        }

        assert_eq!(
            stream.next().await,
            Some(PeerUpdate::Map(Bytes::from_static(&[99])))
        );
        drop(sink);
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn the_last_map_arrives_although_the_publisher_is_gone() {
        let (sink, mut stream) = map_stream();
        sink.put(PeerUpdate::Superseded);
        drop(sink);

        assert_eq!(stream.next().await, Some(PeerUpdate::Superseded));
        assert_eq!(stream.next().await, None);
    }
}
