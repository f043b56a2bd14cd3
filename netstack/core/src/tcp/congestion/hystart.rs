//! The end of the first phase, before it overflows a queue (RFC 9406, `HyStart++`).

use super::Delivery;
use crate::tcp::time::MILLISECOND;

/// By how much round trips must grow to count.
const MIN_GROWTH: u64 = 4 * MILLISECOND;
const MAX_GROWTH: u64 = 16 * MILLISECOND;
/// Samples that make the shortest round trip of a round credible. Whoever acknowledges batches gives few, and a busy
/// machine delays some of them.
const CREDIBLE: u32 = 8;
/// The window opens by one part of so many of what arrives while we are cautious.
const CAUTION: u64 = 4;
/// Rounds of caution after which the phase is over.
const CAUTIOUS_ROUNDS: u32 = 5;

/// Shortest round trips of rounds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HyStart {
    last: Option<u64>,
    current: Option<u64>,
    samples: u32,
    cautious: Option<Cautious>,
}

/// Round trips have grown.
#[derive(Debug, Clone, Copy)]
struct Cautious {
    since: u64,
    rounds: u32,
}

impl HyStart {
    pub(super) fn note(&mut self, delivery: &Delivery) {
        if delivery.new_round {
            self.last = self.current.take();
            self.samples = 0;
            if let Some(cautious) = &mut self.cautious {
                cautious.rounds += 1;
            }
        }
        if let Some(took) = delivery.round_trip {
            self.samples += 1;
            self.current = Some(self.current.map_or(took, |least| least.min(took)));
        }
        let Some(current) = self.current.filter(|_| self.samples >= CREDIBLE) else {
            return;
        };
        match (self.cautious, self.last) {
            (Some(cautious), _) if current < cautious.since => self.cautious = None,
            (None, Some(last)) if current >= last + (last / 8).clamp(MIN_GROWTH, MAX_GROWTH) => {
                self.cautious = Some(Cautious {
                    since: current,
                    rounds: 0,
                });
            }
            _ => {}
        }
    }

    /// The window opens by one part of so many.
    pub(super) fn caution(&self) -> u64 {
        if self.cautious.is_some() { CAUTION } else { 1 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.cautious
            .is_some_and(|cautious| cautious.rounds >= CAUTIOUS_ROUNDS)
    }
}
