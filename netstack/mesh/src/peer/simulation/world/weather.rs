//! What the network does to everything that is sent.

use rand::Rng;
use rand::rngs::SmallRng;

/// What happens to everything that is sent.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Weather {
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    /// Longest way of a signal, in milliseconds.
    pub(super) latest: u64,
    /// Datagrams of each side get through without the relay.
    pub(super) direct: [bool; 2],
}

impl Weather {
    /// Nothing is lost; direct paths lead both ways, one way or not at all.
    pub(in super::super) fn fair(rng: &mut SmallRng) -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            latest: 60,
            direct: openings(rng),
        }
    }

    pub(super) fn foul(rng: &mut SmallRng) -> Self {
        Self {
            loss: if rng.random_bool(0.1) {
                1.0
            } else {
                rng.random_range(0.0..0.5)
            },
            duplicate: rng.random_range(0.0..0.3),
            latest: rng.random_range(20..3000),
            direct: openings(rng),
        }
    }
}

/// Most often both or none; now and then a firewall lets only one side's datagrams through.
fn openings(rng: &mut SmallRng) -> [bool; 2] {
    match rng.random_range(0..8) {
        0 => [true, false],
        1 => [false, true],
        2..5 => [true, true],
        _ => [false, false],
    }
}
