//! Inner packets that are right in all but what the input wants wrong: lengths and checksums fit, so that
//! they get beyond the first look.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::input::Input;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const FIN: u8 = 0x01;
const ACK: u8 = 0x10;

/// Both ends of the tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) ours: Ipv4Addr,
    pub(super) theirs: Ipv4Addr,
    pub(super) ours_v6: Ipv6Addr,
    pub(super) theirs_v6: Ipv6Addr,
}

/// A connection by the ports of the peer and of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    v6: bool,
    theirs: u16,
    ours: u16,
}

/// Where the two directions of a connection are.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// The next byte that the peer sends.
    sent: u32,
    /// The next byte that it expects.
    expected: u32,
    /// Where the node's first byte is, once it said so.
    first: Option<u32>,
}

/// The peer's view of its connections.
#[derive(Debug, Default)]
pub(super) struct Draft {
    flows: HashMap<Flow, Position>,
    /// Connections that the node has begun, to be answered.
    begun: Vec<Flow>,
}

impl Draft {
    /// A TCP segment. Zeros in the input make the one that is due.
    pub(super) fn segment(&mut self, addresses: Addresses, input: &mut Input<'_>) -> Vec<u8> {
        let shape = input.byte();
        let flow = self.choose(shape, input);
        let position = self.flows.entry(flow).or_default();
        let flags = input.byte() & 0x3f;
        let sequence = position.sent.wrapping_add(offset(input, shape & 0x10 != 0));
        let acknowledgement = position.expected.wrapping_add(offset(input, shape & 0x20 != 0));
        let window = if shape & 0x40 == 0 { 0xffff } else { input.word() };
        let options = input.byte() & 0x0f;
        let options = padded(input.bytes(usize::from(options.min(10)) * 4));
        let payload = usize::from(input.byte()) * if shape & 0x80 == 0 { 1 } else { 6 };
        let mut tcp = Vec::with_capacity(60 + payload);
        tcp.extend(flow.theirs.to_be_bytes());
        tcp.extend(flow.ours.to_be_bytes());
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(acknowledgement.to_be_bytes());
        let words = u8::try_from(5 + options.len() / 4).unwrap_or(5);
        tcp.extend([words << 4, flags]);
        tcp.extend(window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(options);
        let first = sequence.wrapping_add(u32::from(flags & SYN != 0));
        tcp.extend((0_u32..).take(payload).map(|at| low(first.wrapping_add(at))));
        if sequence == position.sent {
            let length = payload + usize::from(flags & SYN != 0) + usize::from(flags & FIN != 0);
            position.sent = position.sent.wrapping_add(u32::try_from(length).unwrap_or(0));
        }
        packet(addresses, flow.v6, TCP, tcp)
    }

    /// Follows what the node says.
    pub(super) fn hear(&mut self, addresses: Addresses, packet: &[u8]) {
        let v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        let (at, source, protocol) = if v6 {
            let source = packet
                .get(8..24)
                .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            (40, source.map(IpAddr::from), packet.get(6))
        } else {
            let source = packet
                .get(12..16)
                .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            (20, source.map(IpAddr::from), packet.get(9))
        };
        let ours = if v6 {
            addresses.ours_v6.into()
        } else {
            IpAddr::from(addresses.ours)
        };
        assert_eq!(source, Some(ours), "the node speaks for somebody else");
        if protocol != Some(&TCP) {
            return;
        }
        let tcp = packet.get(at..).and_then(<[u8]>::first_chunk::<20>);
        let Some(
            &[
                s1,
                s2,
                d1,
                d2,
                q1,
                q2,
                q3,
                q4,
                ..,
                offset,
                flags,
                _,
                _,
                _,
                _,
                _,
                _,
            ],
        ) = tcp
        else {
            return;
        };
        let flow = Flow {
            v6,
            theirs: u16::from_be_bytes([d1, d2]),
            ours: u16::from_be_bytes([s1, s2]),
        };
        let sequence = u32::from_be_bytes([q1, q2, q3, q4]);
        let payload = packet
            .get(at + usize::from(offset >> 4) * 4..)
            .unwrap_or_default();
        let length = payload.len() + usize::from(flags & SYN != 0) + usize::from(flags & FIN != 0);
        let position = self.flows.entry(flow).or_default();
        // A byte of no meaning before what is not acknowledged, whatever left behind that: are you there?
        let ahead = position
            .expected
            .wrapping_sub(sequence.wrapping_add(1))
            .cast_signed();
        let is_probe = payload == [0] && ahead >= 0;
        position.expected = sequence.wrapping_add(u32::try_from(length).unwrap_or(0));
        if flags & SYN != 0 {
            position.first = Some(sequence.wrapping_add(1));
        } else if let Some(first) = position.first
            && !is_probe
        {
            let places = (0..).map(|at| low(sequence.wrapping_sub(first).wrapping_add(at)));
            assert!(
                payload.iter().copied().eq(places.take(payload.len())),
                "bytes are out of place"
            );
        }
        if flags & (SYN | ACK) == SYN && !self.begun.contains(&flow) {
            self.begun.push(flow);
        }
    }

    /// One of a few connections to the node, or one that the node has begun.
    fn choose(&self, shape: u8, input: &mut Input<'_>) -> Flow {
        if shape & 0x08 != 0
            && let Some(at) = usize::from(input.byte()).checked_rem(self.begun.len())
        {
            return self.begun[at];
        }
        Flow {
            v6: shape & 0x04 != 0,
            theirs: 5000 + u16::from(shape & 0x02),
            ours: 7 + u16::from(shape & 0x01),
        }
    }
}

fn low(number: u32) -> u8 {
    number.to_le_bytes()[0]
}

/// A packet of any protocol.
pub(super) fn other(addresses: Addresses, input: &mut Input<'_>) -> Vec<u8> {
    let (shape, protocol) = (input.byte(), input.byte());
    let len = usize::from(input.word() % 1500);
    let mut body = input.bytes(len).to_vec();
    if shape & 2 != 0 {
        body.resize(len, 0);
    }
    let mut packet = packet(addresses, shape & 1 != 0, protocol, body);
    if shape & 4 != 0
        && let Some(byte) = packet.get_mut(usize::from(input.byte() % 40))
    {
        *byte = input.byte();
    }
    packet
}

/// A distance from where it should be: none, small in both directions, or anything.
fn offset(input: &mut Input<'_>, wanted: bool) -> u32 {
    if !wanted {
        return 0;
    }
    let word = input.word();
    if word & 1 == 0 {
        u32::from(word).wrapping_sub(0x8000)
    } else {
        u32::from(word) << 16
    }
}

/// Options with a length that the header can say.
fn padded(options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

/// Puts the header of IP in front, and the checksum into TCP.
fn packet(addresses: Addresses, v6: bool, protocol: u8, mut body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let (source, destination) = if v6 {
        (
            addresses.theirs_v6.octets().to_vec(),
            addresses.ours_v6.octets().to_vec(),
        )
    } else {
        (
            addresses.theirs.octets().to_vec(),
            addresses.ours.octets().to_vec(),
        )
    };
    if protocol == TCP && body.len() >= 20 {
        let pseudo = [&source[..], &destination, &[0, protocol], &length.to_be_bytes()].concat();
        let sum = checksum(&[&pseudo, &body]);
        body[16..18].copy_from_slice(&sum.to_be_bytes());
    }
    let mut packet = if v6 {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([protocol, 64]);
        header
    } else {
        let mut header = vec![0x45, 0];
        header.extend(length.saturating_add(20).to_be_bytes());
        header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        let sum = checksum(&[&header, &source, &destination]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    };
    packet.extend(source);
    packet.extend(destination);
    packet.extend(body);
    packet
}

/// The Internet checksum of parts, of which only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
