//! Answers that need no connection: RST, the ACK of a quarantined port, ICMP echo.

use std::net::IpAddr;

use super::packet::{Flags, Packet, Segment};
use crate::tcp::header::{Ends, Header, OptionList};
use crate::tcp::seq::SeqNr;

/// The reset that tells the sender of `segment` that nobody is here (RFC 9293, 3.10.7.1); none for a reset.
pub(crate) fn reset(packet: &Packet<'_>, segment: &Segment, out: &mut Vec<u8>) {
    let next = segment.sequence.wrapping_add(segment.sequence_len());
    if segment.flags.ack() {
        emit(packet, segment, Flags::RST, segment.acknowledgement, 0, out);
    } else {
        emit(packet, segment, Flags::RST.and(Flags::ACK), 0, next, out);
    }
}

/// The acknowledgement of a FIN that was sent again because our last one was lost.
pub(crate) fn final_ack(packet: &Packet<'_>, segment: &Segment, out: &mut Vec<u8>) {
    let next = segment.sequence.wrapping_add(segment.sequence_len());
    emit(packet, segment, Flags::ACK, segment.acknowledgement, next, out);
}

/// The answer to an echo request of either family; `false` for anything else.
pub(crate) fn echo(packet: &Packet<'_>, at: usize, out: &mut Vec<u8>) -> bool {
    let (request, reply) = if packet.source.is_ipv4() {
        (8, 0)
    } else {
        (128, 129)
    };
    let Some(message) = packet
        .bytes
        .get(at..)
        .filter(|message| message.len() >= 8 && message[..2] == [request, 0])
    else {
        return false;
    };

    out.clear();
    out.extend_from_slice(&packet.bytes[..at]);
    out.extend_from_slice(message);
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out[12..16].copy_from_slice(&destination.octets());
            out[16..20].copy_from_slice(&source.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            out[8..24].copy_from_slice(&destination.octets());
            out[24..40].copy_from_slice(&source.octets());
        }
        _ => return false,
    }
    out[at] = reply;
    let old = u16::from_be_bytes([message[2], message[3]]);
    let adjusted = adjust(
        old,
        u16::from_be_bytes([request, 0]),
        u16::from_be_bytes([reply, 0]),
    );
    out[at + 2..at + 4].copy_from_slice(&adjusted.to_be_bytes());
    true
}

/// Updates a checksum for one changed word (RFC 1624).
fn adjust(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the sum was folded to 16 bits")
}

fn emit(
    packet: &Packet<'_>,
    segment: &Segment,
    flags: Flags,
    sequence: u32,
    acknowledgement: u32,
    out: &mut Vec<u8>,
) {
    let ends = Ends {
        local: packet.local(segment),
        remote: packet.remote(segment),
    };
    let header = Header {
        flags,
        sequence: SeqNr(sequence),
        acknowledgement: SeqNr(acknowledgement),
        window: 0,
        options: OptionList::NONE,
    };
    out.clear();
    out.resize(usize::from(ends.overhead()), 0);
    let len = ends.write(&header, [&[], &[]], out);
    out.truncate(len.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::super::packet::Transport;
    use super::*;

    #[test]
    fn answers_an_echo_request_with_a_valid_checksum() {
        let mut request = vec![0; 32];
        request[0] = 0x45;
        request[3] = 32;
        request[9] = 1;
        request[12..16].copy_from_slice(&[10, 0, 0, 2]);
        request[16..20].copy_from_slice(&[10, 0, 0, 1]);
        request[20] = 8;
        request[24..32].copy_from_slice(b"\x12\x34\x00\x01ping");
        let sum = ones_complement(&request[20..]);
        request[22..24].copy_from_slice(&(!sum).to_be_bytes());
        let packet = Packet::parse(&request).unwrap();
        let Transport::Icmp(at) = packet.transport else {
            panic!("not ICMP")
        };
        let mut out = Vec::new();

        assert!(echo(&packet, at, &mut out));

        assert_eq!(out[20], 0);
        assert_eq!(out[12..20], [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(ones_complement(&out[20..]), 0xffff);
    }

    fn ones_complement(bytes: &[u8]) -> u16 {
        let sum: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    }
}
