//! Datagrams waiting to leave, laid out for segmentation offload.

use std::net::SocketAddr;

use crate::PublicKey;

/// Bytes of the arena.
const ARENA: usize = 256 << 10;
/// Room that one datagram may need: the largest inner packet with its header, tag and padding.
const SLOT: usize = 2048;
/// Kept free for replies to received packets while connections fill the batch.
const REPLY_RESERVE: usize = 32 << 10;
/// Most datagrams that one system call may carry, and the most bytes.
const MAX_SEGMENTS: usize = 64;
const MAX_RUN_BYTES: usize = 65_000;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A UDP address.
    Direct(SocketAddr),
    /// The relay connection of this peer.
    Relay(PublicKey),
}

/// A batch of datagrams, back to back in one arena.
///
/// Neighbours of equal size and destination form a run that one system call can send. The arena's memory is touched
/// only as far as it is used.
#[derive(Debug)]
pub struct TxBatch {
    arena: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    datagrams: usize,
}

/// Datagrams of one destination, to be sent in one go.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// Where they go.
    pub destination: Destination,
    /// Size of every datagram but the last, which may be shorter.
    pub segment_size: usize,
    /// The datagrams, back to back.
    pub contents: &'a [u8],
}

impl<'a> Transmit<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> std::slice::Chunks<'a, u8> {
        self.contents.chunks(self.segment_size)
    }
}

#[derive(Debug)]
struct Run {
    destination: Destination,
    start: usize,
    len: usize,
    segment_size: usize,
    segments: usize,
    open: bool,
}

impl TxBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self {
            arena: vec![0; ARENA],
            used: 0,
            runs: Vec::new(),
            datagrams: 0,
        }
    }

    /// Says whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Says whether a received datagram may still be handled; otherwise send and clear the batch first.
    pub fn has_room(&self) -> bool {
        self.used + 4 * SLOT <= ARENA
    }

    /// The runs in order.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        self.runs.iter().map(|run| Transmit {
            destination: run.destination,
            segment_size: run.segment_size,
            contents: &self.arena[run.start..run.start + run.len],
        })
    }

    /// Number of datagrams.
    pub fn len(&self) -> usize {
        self.datagrams
    }

    /// Number of bytes.
    pub fn bytes(&self) -> usize {
        self.used
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.used = 0;
        self.datagrams = 0;
        self.runs.clear();
    }

    /// Says whether connections may add another packet.
    pub(crate) fn has_egress_room(&self) -> bool {
        self.used + REPLY_RESERVE <= ARENA
    }

    /// Space for the next datagram, or `None` when the batch is full.
    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        self.arena.get_mut(self.used..self.used + SLOT)
    }

    /// Adds the first `len` bytes of the slot.
    pub(crate) fn commit(&mut self, len: usize, destination: Destination) {
        debug_assert!(len <= SLOT, "a datagram fits its slot");
        let start = self.used;
        self.used += len;
        self.datagrams += 1;
        if let Some(run) = self.runs.last_mut()
            && run.open
            && run.destination == destination
            && len <= run.segment_size
            && run.segments < MAX_SEGMENTS
            && run.len + len <= MAX_RUN_BYTES
        {
            run.len += len;
            run.segments += 1;
            run.open = len == run.segment_size;
            return;
        }
        self.runs.push(Run {
            destination,
            start,
            len,
            segment_size: len,
            segments: 1,
            open: true,
        });
    }
}

impl Default for TxBatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_equal_sizes_and_closes_after_a_short_one() {
        let mut batch = TxBatch::new();

        for len in [100, 100, 60, 100, 120] {
            batch.commit(len, to(1));
        }
        batch.commit(120, to(2));

        let runs: Vec<_> = batch
            .transmits()
            .map(|run| (run.segment_size, run.contents.len()))
            .collect();
        assert_eq!(runs, [(100, 260), (100, 100), (120, 120), (120, 120)]);
        assert_eq!(
            batch
                .transmits()
                .map(|run| run.datagrams().count())
                .sum::<usize>(),
            batch.len()
        );
    }

    #[test]
    fn never_exceeds_the_segment_limit() {
        let mut batch = TxBatch::new();

        for _ in 0..=MAX_SEGMENTS {
            batch.commit(32, to(1));
        }

        assert_eq!(batch.transmits().count(), 2);
    }

    #[test]
    fn offers_no_slot_when_full() {
        let mut batch = TxBatch::new();

        while batch.slot().is_some() {
            batch.commit(1400, to(1));
        }

        assert!(!batch.has_room());
        assert!(batch.bytes() <= ARENA);
    }

    fn to(port: u16) -> Destination {
        Destination::Direct(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}
