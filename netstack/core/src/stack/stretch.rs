//! Acknowledgements that cover many segments, in pieces.
//!
//! Whoever receives batches acknowledges once for each batch. smoltcp opens its congestion window by at most one segment
//! for each acknowledgement, whatever that covers; a window that should double with every round trip would grow by one
//! segment instead. Handed in one piece after the other, an acknowledgement opens the window by what it covers, as in
//! RFC 3465 and other stacks.

use std::ops::Deref;

use super::packet::Segment;

/// Largest headers of IP and TCP without extensions.
const MAX_HEADERS: usize = 120;
/// Pieces before the acknowledgement itself; also how many segments one of them opens the window by.
const MAX_PIECES: u32 = 16;

/// What the other side has acknowledged so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    acknowledged: Option<u32>,
    segment_size: u32,
}

/// The acknowledgements to hand in before one that came.
#[derive(Debug)]
pub(super) struct Pieces {
    packet: Piece,
    at: usize,
    next: u32,
    left: u32,
    step: u32,
}

/// A packet that acknowledges a part. Its checksum is not adjusted; nobody looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    bytes: [u8; MAX_HEADERS],
    len: usize,
}

impl Stretch {
    /// `segment_size` is the payload of a full segment.
    pub(super) fn new(segment_size: u16) -> Self {
        Self {
            acknowledged: None,
            segment_size: u32::from(segment_size).max(1),
        }
    }

    /// Notes what the segment acknowledges, and cuts that in pieces if it is much.
    pub(super) fn cut(&mut self, bytes: &[u8], segment: &Segment) -> Option<Pieces> {
        let flags = segment.flags;
        if !flags.ack() || flags.syn() || flags.rst() {
            return None;
        }
        let end = segment.acknowledgement;
        let Some(start) = self.acknowledged else {
            self.acknowledged = Some(end);
            return None;
        };
        let covered = end.wrapping_sub(start);
        if covered.cast_signed() <= 0 {
            return None;
        }
        self.acknowledged = Some(end);
        let pieces = (covered - 1) / self.segment_size;
        if pieces == 0 || segment.payload_len > 0 || flags.fin() || bytes.len() > MAX_HEADERS {
            return None;
        }
        let mut packet = Piece {
            bytes: [0; MAX_HEADERS],
            len: bytes.len(),
        };
        packet.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(Pieces {
            packet,
            at: acknowledgement_at(bytes)?,
            next: start,
            left: pieces.min(MAX_PIECES),
            step: self.segment_size,
        })
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        self.left = self.left.checked_sub(1)?;
        self.next = self.next.wrapping_add(self.step);
        let mut piece = self.packet;
        piece
            .bytes
            .get_mut(self.at..self.at + 4)?
            .copy_from_slice(&self.next.to_be_bytes());
        Some(piece)
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where the acknowledgement number lies in a packet whose headers were checked.
fn acknowledgement_at(packet: &[u8]) -> Option<usize> {
    let first = packet.first()?;
    let header = match first >> 4 {
        4 => usize::from(first & 0x0f) * 4,
        _ => 40,
    };
    let at = header + 8;
    (at + 4 <= packet.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::packet::{Packet, Transport};

    /// The numbers wrap within the first acknowledgement.
    const START: u32 = u32::MAX - 10;

    #[test]
    fn cuts_what_covers_many_segments() {
        let mut stretch = begun();

        assert_eq!(cut(&mut stretch, 100, 0), []);
        assert_eq!(cut(&mut stretch, 350, 0), [200, 300]);
        assert_eq!(cut(&mut stretch, 350, 0), [], "a repeated one");
        assert_eq!(cut(&mut stretch, 200, 0), [], "an old one");
        assert_eq!(cut(&mut stretch, 550, 0), [450]);
    }

    #[test]
    fn leaves_data_alone() {
        let mut stretch = begun();

        assert_eq!(cut(&mut stretch, 1000, 5), []);
        assert_eq!(cut(&mut stretch, 1200, 0), [1100]);
    }

    #[test]
    fn cuts_no_more_than_so_many() {
        let mut stretch = begun();

        assert_eq!(cut(&mut stretch, 1 << 20, 0).len(), MAX_PIECES as usize);
    }

    fn begun() -> Stretch {
        let mut stretch = Stretch::new(100);
        assert_eq!(cut(&mut stretch, 0, 0), []);
        stretch
    }

    /// Hands in an acknowledgement of so many bytes with so much payload; tells what comes before it.
    fn cut(stretch: &mut Stretch, end: u32, payload: usize) -> Vec<u32> {
        let mut bytes = vec![0; 40 + payload];
        bytes[0] = 0x45;
        let len = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[9] = 6;
        bytes[28..32].copy_from_slice(&START.wrapping_add(end).to_be_bytes());
        bytes[32] = 0x50;
        bytes[33] = 0x10;
        let segment = segment(&bytes);

        let pieces = stretch.cut(&bytes, &segment).into_iter().flatten();
        pieces
            .map(|piece| self::segment(&piece).acknowledgement.wrapping_sub(START))
            .collect()
    }

    fn segment(bytes: &[u8]) -> Segment {
        match Packet::parse(bytes).unwrap().transport {
            Transport::Tcp(segment) => segment,
            other => panic!("no TCP: {other:?}"),
        }
    }
}
