//! TCP's options in both directions, and whole packets out.

use std::net::{IpAddr, SocketAddr};

use super::seq::SeqNr;
use crate::stack::packet::Flags;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
/// Largest shift that may be used (RFC 7323, 2.3).
const MAX_SCALE: u8 = 14;
/// Blocks that fit a header without other options.
const MAX_BLOCKS: usize = 4;
const MAX_OPTIONS: usize = 40;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;
const HOP_LIMIT: u8 = 64;

/// Bytes that arrived, as a selective acknowledgement tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) start: SeqNr,
    pub(crate) end: SeqNr,
}

/// What a header's options say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) segment_size: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    blocks: [Option<Block>; MAX_BLOCKS],
}

impl Options {
    /// Reads as far as they make sense.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        let mut rest = bytes;
        while let [kind, behind @ ..] = rest {
            if *kind == NO_OPERATION {
                rest = behind;
                continue;
            }
            let len = behind.first().map_or(0, |len| usize::from(*len));
            let Some(data) = rest.get(2..len).filter(|_| *kind != END_OF_OPTIONS) else {
                break;
            };
            options.note(*kind, data);
            rest = &rest[len..];
        }
        options
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> {
        self.blocks.into_iter().flatten()
    }

    fn note(&mut self, kind: u8, data: &[u8]) {
        match (kind, data) {
            (SEGMENT_SIZE, [high, low]) => self.segment_size = Some(u16::from_be_bytes([*high, *low])),
            (WINDOW_SCALE, [scale]) => self.scale = Some((*scale).min(MAX_SCALE)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (SACK, data) => {
                for (block, numbers) in self.blocks.iter_mut().zip(data.chunks_exact(8)) {
                    let (start, end) = numbers.split_at(4);
                    *block = number(start)
                        .zip(number(end))
                        .map(|(start, end)| Block { start, end });
                }
            }
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> Option<SeqNr> {
    Some(SeqNr(u32::from_be_bytes(bytes.try_into().ok()?)))
}

/// Options to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionList {
    bytes: [u8; MAX_OPTIONS],
    len: usize,
}

impl OptionList {
    pub(crate) const NONE: Self = Self {
        bytes: [0; MAX_OPTIONS],
        len: 0,
    };

    /// The options of a SYN.
    pub(crate) fn opening(segment_size: u16, scale: Option<u8>, sack: Sack) -> Self {
        let mut list = Self::NONE;
        list.push(&[SEGMENT_SIZE, 4]);
        list.push(&segment_size.to_be_bytes());
        if let Some(scale) = scale {
            list.push(&[NO_OPERATION, WINDOW_SCALE, 3, scale]);
        }
        if sack == Sack::Permitted {
            list.push(&[NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2]);
        }
        list
    }

    /// A selective acknowledgement; of more blocks than fit, the first are told.
    pub(crate) fn arrived(blocks: impl Iterator<Item = Block>) -> Self {
        let mut list = Self::NONE;
        list.push(&[NO_OPERATION, NO_OPERATION, SACK, 2]);
        for block in blocks.take(MAX_BLOCKS) {
            list.push(&block.start.0.to_be_bytes());
            list.push(&block.end.0.to_be_bytes());
            list.bytes[3] += 8;
        }
        if list.len == 4 { Self::NONE } else { list }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Whether selective acknowledgements are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sack {
    Permitted,
    Unknown,
}

/// Both ends of a connection as headers name them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// A segment to be sent, without its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) flags: Flags,
    pub(crate) sequence: SeqNr,
    pub(crate) acknowledgement: SeqNr,
    pub(crate) window: u16,
    pub(crate) options: OptionList,
}

impl Ends {
    /// Bytes of the headers without options.
    pub(crate) fn overhead(&self) -> u16 {
        if self.local.is_ipv4() { 40 } else { 60 }
    }

    /// Writes a packet and says how long it is; `None` when it does not fit.
    pub(crate) fn write(&self, header: &Header, payload: [&[u8]; 2], out: &mut [u8]) -> Option<usize> {
        let ip = usize::from(self.overhead()) - TCP_HEADER;
        let body = TCP_HEADER + header.options.len;
        let [first, second] = payload;
        let len = ip + body + first.len() + second.len();
        let out = out.get_mut(..len)?;
        let (ip_header, segment) = out.split_at_mut(ip);
        let (tcp_header, data) = segment.split_at_mut(body);
        let (front, back) = data.split_at_mut(first.len());
        front.copy_from_slice(first);
        back.copy_from_slice(second);
        self.write_tcp(header, tcp_header);
        let pseudo = self.write_ip(len, ip_header)?;
        let sum = checksum(pseudo + sum(segment));
        segment[16..18].copy_from_slice(&sum);
        Some(len)
    }

    fn write_tcp(&self, header: &Header, out: &mut [u8]) {
        out[0..2].copy_from_slice(&self.local.port().to_be_bytes());
        out[2..4].copy_from_slice(&self.remote.port().to_be_bytes());
        out[4..8].copy_from_slice(&header.sequence.0.to_be_bytes());
        out[8..12].copy_from_slice(&header.acknowledgement.0.to_be_bytes());
        out[12] = u8::try_from(out.len() / 4).expect("a header has 15 words at the most") << 4;
        out[13] = header.flags.bits();
        out[14..16].copy_from_slice(&header.window.to_be_bytes());
        out[16..20].fill(0);
        out[20..].copy_from_slice(&header.options.bytes[..header.options.len]);
    }

    /// Returns the sum over TCP's pseudo header.
    fn write_ip(&self, len: usize, out: &mut [u8]) -> Option<u64> {
        let total = u16::try_from(len).ok()?;
        let body = total - u16::try_from(out.len()).ok()?;
        let rest = sum(&[0, TCP]) + sum(&body.to_be_bytes());
        match (self.local.ip(), self.remote.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                out[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, TCP, 0, 0]);
                out[2..4].copy_from_slice(&total.to_be_bytes());
                out[12..16].copy_from_slice(&source.octets());
                out[16..20].copy_from_slice(&destination.octets());
                let own = checksum(sum(out));
                out[10..12].copy_from_slice(&own);
                Some(sum(&out[12..20]) + rest)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                out[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, TCP, HOP_LIMIT]);
                out[4..6].copy_from_slice(&body.to_be_bytes());
                out[8..24].copy_from_slice(&source.octets());
                out[24..40].copy_from_slice(&destination.octets());
                Some(sum(&out[8..40]) + rest)
            }
            _ => None,
        }
    }
}

/// Adds up words in the machine's own order, which the ones' complement allows (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let total: u64 = words
        .by_ref()
        .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .sum();
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total + u64::from(u32::from_ne_bytes(last))
}

fn checksum(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("the sum was folded to 16 bits")).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stack::packet::{Packet, Transport};

    proptest! {
        #[test]
        fn options_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Options::parse(&bytes);
        }

        #[test]
        fn packets_read_as_they_were_written(
            v6: bool,
            payload in prop::collection::vec(any::<u8>(), 0..1400),
            cut: prop::sample::Index,
            numbers: [u32; 2],
            window: u16,
            blocks in prop::collection::vec(any::<[u32; 2]>(), 0..4),
        ) {
            let ends = if v6 {
                Ends { local: "[fd00::1]:7".parse().unwrap(), remote: "[fd00::9]:65535".parse().unwrap() }
            } else {
                Ends { local: "10.0.0.1:7".parse().unwrap(), remote: "10.0.0.9:65535".parse().unwrap() }
            };
            let blocks: Vec<Block> =
                blocks.iter().map(|[start, end]| Block { start: SeqNr(*start), end: SeqNr(*end) }).collect();
            let header = Header {
                flags: Flags::ACK,
                sequence: SeqNr(numbers[0]),
                acknowledgement: SeqNr(numbers[1]),
                window,
                options: OptionList::arrived(blocks.iter().copied()),
            };
            let (front, back) = payload.split_at(cut.index(payload.len() + 1));
            let mut out = vec![0xff; 2000];

            let len = ends.write(&header, [front, back], &mut out).unwrap();

            let packet = Packet::parse(&out[..len]).unwrap();
            let Transport::Tcp(segment) = packet.transport else { panic!("not TCP") };
            prop_assert_eq!(packet.bytes.len(), len);
            prop_assert_eq!((packet.local(&segment), packet.remote(&segment)), (ends.remote, ends.local));
            prop_assert_eq!([segment.sequence, segment.acknowledgement], numbers);
            prop_assert_eq!(segment.window, window);
            prop_assert_eq!(segment.payload(&packet), &payload[..]);
            let told: Vec<Block> = Options::parse(segment.options(&packet)).blocks().collect();
            prop_assert_eq!(told, blocks);
            let ip = if v6 { 40 } else { 20 };
            if !v6 {
                prop_assert_eq!(plain_sum(&out[..ip]), 0xffff);
            }
            let addresses = if v6 { 8..40 } else { 12..20 };
            let mut summed = out[addresses].to_vec();
            summed.extend([0, TCP]);
            summed.extend(u16::try_from(len - ip).unwrap().to_be_bytes());
            summed.extend(&out[ip..len]);
            prop_assert_eq!(plain_sum(&summed), 0xffff);
        }
    }

    #[test]
    fn a_syn_offers_everything() {
        let list = OptionList::opening(1240, Some(7), Sack::Permitted);

        let options = Options::parse(&list.bytes[..list.len]);

        assert_eq!(list.len % 4, 0);
        assert_eq!((options.segment_size, options.scale), (Some(1240), Some(7)));
        assert!(options.sack_permitted);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let ends = Ends {
            local: "10.0.0.1:7".parse().unwrap(),
            remote: "10.0.0.9:8".parse().unwrap(),
        };
        let header = Header {
            flags: Flags::ACK,
            sequence: SeqNr(0),
            acknowledgement: SeqNr(0),
            window: 0,
            options: OptionList::NONE,
        };

        assert_eq!(ends.write(&header, [&[0; 100], &[]], &mut [0; 139]), None);
        assert_eq!(ends.write(&header, [&[0; 100], &[]], &mut [0; 140]), Some(140));
    }

    /// As the RFC has it, byte by byte.
    fn plain_sum(bytes: &[u8]) -> u32 {
        let words = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }
}
