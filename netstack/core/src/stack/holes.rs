//! Losses that selective acknowledgements show.
//!
//! smoltcp sends a missing segment again when the same number was acknowledged three times more, and does not look at
//! what else arrived. Whoever receives batches says it once for a whole batch, and then only a timer of one second
//! helps. The ranges of RFC 2018 tell more: three segments behind a missing one are proof enough (RFC 6675).

use super::packet::Segment;

/// Segments that arrived behind a missing one, which prove that it is lost.
const PROOF: u32 = 3;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const SELECTIVE_ACKNOWLEDGEMENT: u8 = 5;

/// Finds segments of ours that are lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holes {
    told: Option<u32>,
    segment_size: u32,
}

impl Holes {
    /// `segment_size` is the payload of a full segment.
    pub(super) fn new(segment_size: u16) -> Self {
        Self {
            told: None,
            segment_size: u32::from(segment_size).max(1),
        }
    }

    /// Whether the segment behind what is acknowledged is lost; told once for each.
    pub(super) fn shows(&mut self, packet: &[u8], segment: &Segment) -> bool {
        let flags = segment.flags;
        let plain = flags.ack() && !flags.syn() && !flags.fin() && !flags.rst() && segment.payload_len == 0;
        let missing = segment.acknowledgement;
        if !plain || self.told == Some(missing) {
            return false;
        }
        let arrived = arrived_behind(packet, missing).unwrap_or(0);
        let lost = arrived >= PROOF * self.segment_size;
        if lost {
            self.told = Some(missing);
        }
        lost
    }
}

/// Bytes that arrived behind `missing`, as the packet's TCP header tells.
fn arrived_behind(packet: &[u8], missing: u32) -> Option<u32> {
    let first = packet.first()?;
    let at = match first >> 4 {
        4 => usize::from(first & 0x0f) * 4,
        _ => 40,
    };
    let header = packet.get(at..)?;
    let len = usize::from(header.get(12)? >> 4) * 4;
    let mut options = header.get(20..len)?;
    let mut arrived = 0_u32;
    while let [kind, rest @ ..] = options {
        if *kind == NO_OPERATION {
            options = rest;
            continue;
        }
        if *kind == END_OF_OPTIONS {
            break;
        }
        let len = usize::from(*rest.first()?);
        let data = options.get(2..len)?;
        if *kind == SELECTIVE_ACKNOWLEDGEMENT {
            for range in data.chunks_exact(8) {
                let (start, end) = range.split_at(4);
                let start = u32::from_be_bytes(start.try_into().ok()?);
                let end = u32::from_be_bytes(end.try_into().ok()?);
                let ahead = start.wrapping_sub(missing).cast_signed() > 0;
                let size = end.wrapping_sub(start);
                if ahead && size.cast_signed() > 0 {
                    arrived = arrived.saturating_add(size);
                }
            }
        }
        options = options.get(len..)?;
    }
    Some(arrived)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stack::packet::{Packet, Transport};

    /// The numbers wrap within the first range.
    const MISSING: u32 = u32::MAX - 50;

    #[test]
    fn three_segments_behind_prove_a_loss_once() {
        let mut holes = Holes::new(100);

        assert!(!shows(&mut holes, MISSING, &[(100, 300)]), "two segments");
        assert!(shows(&mut holes, MISSING, &[(100, 400)]));
        assert!(!shows(&mut holes, MISSING, &[(100, 500)]), "told before");
        assert!(shows(
            &mut holes,
            MISSING.wrapping_add(400),
            &[(500, 600), (700, 900)]
        ));
    }

    #[test]
    fn what_was_acknowledged_before_proves_nothing() {
        let mut holes = Holes::new(100);

        assert!(!shows(&mut holes, MISSING.wrapping_add(1000), &[(0, 900)]));
        assert!(!shows(&mut holes, MISSING, &[]));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), missing: u32) {
            let _ = arrived_behind(&bytes, missing);
        }
    }

    /// Hands in an acknowledgement of `missing` with ranges that count from [`MISSING`].
    fn shows(holes: &mut Holes, missing: u32, ranges: &[(u32, u32)]) -> bool {
        let mut options = vec![NO_OPERATION, NO_OPERATION];
        options.extend([
            SELECTIVE_ACKNOWLEDGEMENT,
            u8::try_from(2 + ranges.len() * 8).unwrap(),
        ]);
        for (start, end) in ranges {
            options.extend(MISSING.wrapping_add(*start).to_be_bytes());
            options.extend(MISSING.wrapping_add(*end).to_be_bytes());
        }
        let mut bytes = vec![0; 40];
        bytes[0] = 0x45;
        bytes[3] = u8::try_from(40 + options.len()).unwrap();
        bytes[9] = 6;
        bytes[28..32].copy_from_slice(&missing.to_be_bytes());
        bytes[32] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        bytes[33] = 0x10;
        bytes.extend(options);
        match Packet::parse(&bytes).unwrap().transport {
            Transport::Tcp(segment) => holes.shows(&bytes, &segment),
            other => panic!("no TCP: {other:?}"),
        }
    }
}
