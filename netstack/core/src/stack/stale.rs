//! Acknowledgements that come with old data.
//!
//! After a loss smoltcp puts the sequence number that it goes back to into its acknowledgements, and of a segment that
//! brings nothing but old data, or data that finds no room, it discards the acknowledgement too. When both directions
//! lost something, both sides so discard each other's acknowledgements until they give up. As BSD does, the
//! acknowledgement of such a segment is therefore handed in by itself, at the number that is waited for.

use super::packet::{Flags, Packet, Segment};

/// Largest headers of IP and TCP.
const MAX_HEADERS: usize = 60 + 60;

/// What a connection received so far, as numbers on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Sequence number of the other side's SYN.
    pub(super) start: Option<u32>,
    /// The newest acknowledgement that smoltcp saw.
    acknowledged: Option<u32>,
}

impl Progress {
    /// Says at which number the segment's acknowledgement must be handed in by itself, because it is news that smoltcp
    /// would discard.
    pub(super) fn hidden(&mut self, segment: &Segment, received: Received) -> Option<u32> {
        let expected = self.start?.wrapping_add(1).wrapping_add(received.bytes);
        if !segment.flags.ack() || segment.flags.syn() || segment.flags.rst() {
            return None;
        }
        let end = segment.sequence.wrapping_add(segment.sequence_len());
        let is_old = segment.sequence != expected && !is_after(end, expected);
        let is_discarded = is_old || (received.room == 0 && segment.payload_len > 0);
        let is_news = self
            .acknowledged
            .is_none_or(|newest| is_after(segment.acknowledgement, newest));
        if is_news {
            self.acknowledged = Some(segment.acknowledgement);
        }
        (is_discarded && is_news).then_some(expected)
    }
}

/// What came of the other side's data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    /// Bytes that came in order, and a FIN, as a difference of sequence numbers.
    pub(super) bytes: u32,
    /// Bytes that there is room for.
    pub(super) room: usize,
}

/// A segment that only acknowledges.
#[derive(Debug)]
pub(super) struct BareAcknowledgement {
    bytes: [u8; MAX_HEADERS],
    len: usize,
    pub(super) segment: Segment,
}

impl BareAcknowledgement {
    /// Takes the acknowledgement out of a packet and moves it to the sequence number.
    pub(super) fn of(packet: &Packet<'_>, segment: &Segment, sequence: u32) -> Option<Self> {
        let len = packet.bytes.len().checked_sub(segment.payload_len)?;
        let mut bytes = [0; MAX_HEADERS];
        bytes.get_mut(..len)?.copy_from_slice(packet.bytes.get(..len)?);
        let (tcp, length_at, length) = if packet.source.is_ipv4() {
            (usize::from(bytes[0] & 0x0f) * 4, 2, len)
        } else {
            (40, 4, len.checked_sub(40)?)
        };
        let length = u16::try_from(length).ok()?;
        bytes[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        bytes
            .get_mut(tcp + 4..tcp + 8)?
            .copy_from_slice(&sequence.to_be_bytes());
        *bytes.get_mut(tcp + 13)? = Flags::ACK.bits();
        let segment = Segment {
            sequence,
            flags: Flags::ACK,
            payload_len: 0,
            ..*segment
        };
        Some(Self { bytes, len, segment })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn is_after(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::super::packet::Transport;
    use super::*;

    const START: u32 = u32::MAX - 5;

    #[test]
    fn news_with_old_data_is_hidden() {
        let mut progress = started();

        // 100 bytes came; so the next is START + 101.
        assert_eq!(
            progress.hidden(&said(1, 100, 7), came(100)),
            Some(START.wrapping_add(101))
        );
        assert_eq!(
            progress.hidden(&said(51, 0, 8), came(100)),
            Some(START.wrapping_add(101))
        );
    }

    #[test]
    fn what_smoltcp_reads_itself_is_not() {
        let mut progress = started();

        assert_eq!(
            progress.hidden(&said(101, 0, 7), came(100)),
            None,
            "at the expected number"
        );
        assert_eq!(progress.hidden(&said(51, 100, 9), came(100)), None, "partly new");
        assert_eq!(progress.hidden(&said(201, 100, 10), came(100)), None, "ahead");
        assert_eq!(
            progress.hidden(&said(1, 100, 10), came(100)),
            None,
            "old, and no news"
        );
        assert_eq!(progress.hidden(&said(1, 100, 3), came(100)), None, "old news");
    }

    #[test]
    fn news_with_data_that_finds_no_room_is_hidden() {
        let mut progress = started();
        let full = Received { bytes: 100, room: 0 };

        assert_eq!(
            progress.hidden(&said(101, 1, 7), full),
            Some(START.wrapping_add(101))
        );
        assert_eq!(
            progress.hidden(&said(101, 0, 8), full),
            None,
            "without data it is read"
        );
    }

    #[test]
    fn the_packet_loses_its_data_and_moves() {
        for ip in [20, 40] {
            let bytes = packet(ip, 9);
            let parsed = Packet::parse(&bytes).unwrap();
            let Transport::Tcp(segment) = parsed.transport else {
                panic!("not TCP")
            };

            let bare = BareAcknowledgement::of(&parsed, &segment, 77).unwrap();

            let again = Packet::parse(bare.bytes()).unwrap();
            let Transport::Tcp(moved) = again.transport else {
                panic!("not TCP")
            };
            assert_eq!(bare.bytes().len(), ip + 20);
            assert_eq!((moved.sequence, moved.payload_len), (77, 0));
            assert_eq!(moved.acknowledgement, segment.acknowledgement);
            assert!(moved.flags.ack() && !moved.flags.fin());
        }
    }

    fn came(bytes: u32) -> Received {
        Received { bytes, room: 1000 }
    }

    fn started() -> Progress {
        Progress {
            start: Some(START),
            acknowledged: None,
        }
    }

    fn said(at: u32, len: usize, acknowledgement: u32) -> Segment {
        Segment {
            source_port: 1,
            destination_port: 2,
            sequence: START.wrapping_add(at),
            acknowledgement,
            flags: Flags::ACK,
            payload_len: len,
        }
    }

    fn packet(ip: usize, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; ip + 20 + payload];
        let len = u16::try_from(bytes.len()).unwrap();
        if ip == 20 {
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[9] = 6;
        } else {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            bytes[6] = 6;
        }
        bytes[ip + 8] = 3;
        bytes[ip + 12] = 0x50;
        bytes[ip + 13] = 0x11;
        bytes
    }
}
