//! Reading the headers of an inner packet. Checks every length; never panics.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

const TCP: u8 = 6;
const ICMP_V4: u8 = 1;
const ICMP_V6: u8 = 58;

/// An inner packet whose headers were checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) transport: Transport,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Tcp(Segment),
    /// ICMP of the address's family, from this offset on.
    Icmp(usize),
    Other,
}

/// What the demultiplexer needs of a TCP header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: Flags,
    pub(crate) window: u16,
    pub(crate) payload_len: usize,
    options_len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const FIN: Self = Self(0x01);
    pub(crate) const SYN: Self = Self(0x02);
    pub(crate) const RST: Self = Self(0x04);
    pub(crate) const PSH: Self = Self(0x08);
    pub(crate) const ACK: Self = Self(0x10);

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    pub(crate) fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    pub(crate) fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    pub(crate) fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

impl Segment {
    /// Sequence space that the segment takes.
    pub(crate) fn sequence_len(&self) -> u32 {
        let payload = u32::try_from(self.payload_len).unwrap_or(0);
        payload + u32::from(self.flags.syn()) + u32::from(self.flags.fin())
    }

    /// Whether it opens a connection.
    pub(crate) fn opens(&self) -> bool {
        self.flags.syn() && !self.flags.ack() && !self.flags.fin() && !self.flags.rst()
    }

    /// What the packet that it is of carries.
    pub(crate) fn payload<'a>(&self, packet: &Packet<'a>) -> &'a [u8] {
        let at = packet.bytes.len().saturating_sub(self.payload_len);
        packet.bytes.get(at..).unwrap_or_default()
    }

    /// The options of its header, in the packet that it is of.
    pub(crate) fn options<'a>(&self, packet: &Packet<'a>) -> &'a [u8] {
        let end = packet.bytes.len().saturating_sub(self.payload_len);
        let start = end.saturating_sub(self.options_len);
        packet.bytes.get(start..end).unwrap_or_default()
    }
}

impl<'a> Packet<'a> {
    /// Reads the headers; `None` for fragments, short or inconsistent packets.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    /// The sender's socket address, if it is TCP.
    pub(crate) fn remote(&self, segment: &Segment) -> SocketAddr {
        SocketAddr::new(self.source, segment.source_port)
    }

    /// Our socket address, if it is TCP.
    pub(crate) fn local(&self, segment: &Segment) -> SocketAddr {
        SocketAddr::new(self.destination, segment.destination_port)
    }

    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let header_len = usize::from(bytes.first()? & 0x0f) * 4;
        let total_len = usize::from(half(bytes, 2)?);
        let fragmented = half(bytes, 6)? & 0x3fff != 0;
        if header_len < 20 || total_len < header_len || fragmented {
            return None;
        }
        let bytes = bytes.get(..total_len)?;
        let address = |range: Range<usize>| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(range)?).ok()?));
        let transport = match *bytes.get(9)? {
            TCP => Transport::Tcp(segment(bytes, header_len)?),
            ICMP_V4 => Transport::Icmp(header_len),
            _ => Transport::Other,
        };
        Some(Self {
            bytes,
            source: address(12..16)?,
            destination: address(16..20)?,
            transport,
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        const HEADER_LEN: usize = 40;
        let bytes = bytes.get(..HEADER_LEN + usize::from(half(bytes, 4)?))?;
        let address = |range: Range<usize>| Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(range)?).ok()?));
        let transport = match *bytes.get(6)? {
            TCP => Transport::Tcp(segment(bytes, HEADER_LEN)?),
            ICMP_V6 => Transport::Icmp(HEADER_LEN),
            _ => Transport::Other,
        };
        Some(Self {
            bytes,
            source: address(8..24)?,
            destination: address(24..40)?,
            transport,
        })
    }
}

fn segment(bytes: &[u8], at: usize) -> Option<Segment> {
    let header = bytes.get(at..)?;
    let header_len = usize::from(header.get(12)? >> 4) * 4;
    if header_len < 20 {
        return None;
    }
    Some(Segment {
        source_port: half(header, 0)?,
        destination_port: half(header, 2)?,
        sequence: word(header, 4)?,
        acknowledgement: word(header, 8)?,
        flags: Flags(*header.get(13)?),
        window: half(header, 14)?,
        payload_len: header.len().checked_sub(header_len)?,
        options_len: header_len - 20,
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn never_panics_on_nearly_valid_headers(mut bytes in prop::collection::vec(any::<u8>(), 20..120), v6: bool) {
            bytes[0] = if v6 { 0x60 } else { 0x45 };
            bytes[if v6 { 6 } else { 9 }] = TCP;
            let len = u16::try_from(bytes.len()).unwrap();
            if !v6 {
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes[6..8].fill(0);
            }
            if let Some(Packet { transport: Transport::Tcp(segment), .. }) = Packet::parse(&bytes) {
                prop_assert!(segment.payload_len <= bytes.len());
            }
        }
    }

    #[test]
    fn refuses_fragments() {
        let mut bytes = [0; 40];
        bytes[0] = 0x45;
        bytes[3] = 40;
        bytes[9] = TCP;
        bytes[32] = 0x50;
        assert!(Packet::parse(&bytes).is_some());

        bytes[6] = 0x20;

        assert!(Packet::parse(&bytes).is_none());
    }
}
