//! A connection's way out: packets straight into its peer's tunnel.

use std::time::Instant;

use crate::batch::TxBatch;
use crate::device::peer::{Demand, Peer};
use crate::tcp::Exit;

/// WireGuard pads inner packets to a multiple of this, so that lengths say less.
const PADDING: usize = 16;
/// Room for the largest inner packet with its padding.
pub(crate) const SCRATCH: usize = 2048;

/// The way out for one turn.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    pub(crate) now: Instant,
    pub(crate) peer: &'a mut Peer,
    pub(crate) batch: &'a mut TxBatch,
    pub(crate) scratch: &'a mut [u8; SCRATCH],
}

impl Exit for Link<'_> {
    fn has_room(&self) -> bool {
        self.peer.can_transmit() && self.batch.has_egress_room()
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.scratch[..SCRATCH - PADDING]
    }

    fn send(&mut self, len: usize, demand: Demand) {
        let padded = len.next_multiple_of(PADDING).min(SCRATCH);
        self.scratch[len..padded].fill(0);
        self.peer
            .send(self.now, &self.scratch[..padded], demand, self.batch);
    }
}
