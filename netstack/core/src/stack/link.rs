//! smoltcp's device: one received packet in, packets straight into the peer's tunnel out.

use std::cell::Cell;
use std::time::Instant;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant as StackInstant;

use super::packet::{Packet, Segment, Transport};
use crate::batch::TxBatch;
use crate::device::peer::{Demand, Peer};

/// WireGuard pads inner packets to a multiple of this, so that lengths say less.
const PADDING: usize = 16;
/// Room for the largest inner packet with its padding.
pub(crate) const SCRATCH: usize = 2048;

/// A connection's way out for one turn.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    pub(crate) now: Instant,
    pub(crate) mtu: u16,
    pub(crate) peer: &'a mut Peer,
    pub(crate) batch: &'a mut TxBatch,
    pub(crate) scratch: &'a mut [u8; SCRATCH],
    pub(crate) received: Option<&'a [u8]>,
    /// Set once a segment left that tells the other side our scaled window.
    pub(crate) announced: Cell<bool>,
}

impl Link<'_> {
    /// The same way out, with another packet received.
    pub(crate) fn with<'a>(&'a mut self, received: &'a [u8]) -> Link<'a> {
        Link {
            now: self.now,
            mtu: self.mtu,
            peer: self.peer,
            batch: self.batch,
            scratch: self.scratch,
            received: Some(received),
            announced: Cell::new(false),
        }
    }
}

impl phy::Device for Link<'_> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: StackInstant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        let packet = self.received.take()?;
        Some((
            RxToken(packet),
            TxToken::new(self.now, self.peer, self.batch, self.scratch, &self.announced),
        ))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<TxToken<'_>> {
        (self.peer.can_transmit() && self.batch.has_egress_room())
            .then(|| TxToken::new(self.now, self.peer, self.batch, self.scratch, &self.announced))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

/// A device that is asked for its capabilities only, to make interfaces with.
#[derive(Debug)]
pub(crate) struct Blueprint(pub(crate) u16);

impl phy::Device for Blueprint {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _now: StackInstant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        None
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<TxToken<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, handle: F) -> R {
        handle(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct TxToken<'a> {
    now: Instant,
    peer: &'a mut Peer,
    batch: &'a mut TxBatch,
    scratch: &'a mut [u8; SCRATCH],
    announced: &'a Cell<bool>,
}

impl<'a> TxToken<'a> {
    fn new(
        now: Instant,
        peer: &'a mut Peer,
        batch: &'a mut TxBatch,
        scratch: &'a mut [u8; SCRATCH],
        announced: &'a Cell<bool>,
    ) -> Self {
        Self {
            now,
            peer,
            batch,
            scratch,
            announced,
        }
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let result = fill(&mut self.scratch[..len]);
        let sent = send(self.now, self.peer, self.scratch, len, self.batch);
        if sent.is_some_and(|segment| segment.flags.ack() && !segment.flags.syn()) {
            self.announced.set(true);
        }
        result
    }
}

/// Pads and sends the first `len` bytes of `scratch`; says what segment that was.
pub(crate) fn send(
    now: Instant,
    peer: &mut Peer,
    scratch: &mut [u8; SCRATCH],
    len: usize,
    batch: &mut TxBatch,
) -> Option<Segment> {
    let segment = match Packet::parse(&scratch[..len]) {
        Some(Packet {
            transport: Transport::Tcp(segment),
            ..
        }) => Some(segment),
        _ => None,
    };
    let demand = match segment {
        Some(segment) if !segment.demands_answer() => Demand::Nothing,
        Some(segment) if segment.flags.syn() => Demand::Opening,
        Some(_) => Demand::Answer,
        None => Demand::Nothing,
    };
    let padded = len.next_multiple_of(PADDING);
    scratch[len..padded].fill(0);
    peer.send(now, &scratch[..padded], demand, batch);
    segment
}

fn capabilities(mtu: u16) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = usize::from(mtu);
    // The tunnel authenticates every packet, so what arrives is what the peer's stack wrote.
    capabilities.checksum.ipv4 = Checksum::Tx;
    capabilities.checksum.tcp = Checksum::Tx;
    capabilities
}
