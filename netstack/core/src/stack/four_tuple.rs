//! Four-tuples: the local ports we draw, and the ones that must rest.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rustc_hash::FxHashMap;

/// Ports drawn for our own connections.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 16_384..=u16::MAX;
/// Random draws before the range is searched in order.
const DRAWS: usize = 32;
/// How long a four-tuple rests after its connection ended.
const QUARANTINE: Duration = Duration::from_mins(1);
/// Resting four-tuples kept; beyond this the oldest is freed early.
const MAX_RESTING: usize = 16_384;

/// A connection's identity on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FourTuple {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both sides know that it did.
    Agreed,
    /// One side ended it alone, and the other one may have missed the reset.
    Broken,
}

/// Four-tuples of ended connections. A late segment of the old connection can so neither reach a new one nor be
/// answered by a reset that the other side takes for a failure.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    resting: FxHashMap<FourTuple, (Instant, Ending)>,
    order: VecDeque<(Instant, FourTuple)>,
}

impl Quarantine {
    pub(crate) fn add(&mut self, now: Instant, flow: FourTuple, ending: Ending) {
        self.expire(now);
        if self.order.len() >= MAX_RESTING {
            self.release_oldest();
        }
        let until = now + QUARANTINE;
        self.resting.insert(flow, (until, ending));
        self.order.push_back((until, flow));
    }

    pub(crate) fn contains(&self, now: Instant, flow: &FourTuple) -> bool {
        self.ending(now, flow).is_some()
    }

    /// How the connection ended, if it rests.
    pub(crate) fn ending(&self, now: Instant, flow: &FourTuple) -> Option<Ending> {
        let (until, ending) = self.resting.get(flow)?;
        (*until > now).then_some(*ending)
    }

    /// The other side may use its own port again: it knows its sequence numbers.
    pub(crate) fn release(&mut self, flow: &FourTuple) {
        self.resting.remove(flow);
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.release_oldest();
        }
    }

    fn release_oldest(&mut self) {
        if let Some((until, flow)) = self.order.pop_front()
            && self.resting.get(&flow).is_some_and(|(other, _)| *other == until)
        {
            self.resting.remove(&flow);
        }
    }
}

/// Draws a local port for which `is_free` holds (RFC 6056, algorithm 2).
pub(crate) fn draw_port(rng: &mut impl Rng, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let drawn = (0..DRAWS)
        .map(|_| rng.random_range(EPHEMERAL))
        .find(|port| is_free(*port));
    drawn.or_else(|| EPHEMERAL.into_iter().find(|port| is_free(*port)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn draws_differ_and_avoid_taken_ports() {
        let mut rng = StdRng::seed_from_u64(1);

        let ports: Vec<u16> = (0..50)
            .filter_map(|_| draw_port(&mut rng, |port| port % 2 == 0))
            .collect();

        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| port % 2 == 0 && EPHEMERAL.contains(port)));
        assert!(
            ports.windows(2).any(|pair| pair[1] < pair[0]),
            "ports came in order: {ports:?}"
        );
    }

    #[test]
    fn finds_the_last_free_port() {
        let mut rng = StdRng::seed_from_u64(1);

        assert_eq!(draw_port(&mut rng, |port| port == 40_000), Some(40_000));
        assert_eq!(draw_port(&mut rng, |_| false), None);
    }

    #[test]
    fn a_flow_rests_for_a_minute() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.add(now, flow(1), Ending::Agreed);

        assert!(quarantine.contains(now + Duration::from_secs(59), &flow(1)));
        assert!(!quarantine.contains(now + Duration::from_mins(1), &flow(1)));
    }

    #[test]
    fn is_bounded() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();

        for port in 0..=u16::MAX {
            quarantine.add(now, flow(port), Ending::Broken);
        }

        assert_eq!(quarantine.resting.len(), MAX_RESTING);
        assert!(quarantine.contains(now, &flow(u16::MAX)));
    }

    fn flow(port: u16) -> FourTuple {
        FourTuple {
            local: ([10, 0, 0, 1], port).into(),
            remote: ([10, 0, 0, 2], 80).into(),
        }
    }
}
