//! What happens to the network and the nodes, and when.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use meshgate_netstack_core::{Fullness, PathKind};
use rand::Rng;
use rand::rngs::StdRng;

use crate::world::*;

/// Everything that happens in a case, in order; at the end the weather clears.
pub(super) struct Script {
    events: VecDeque<(Instant, Chaos)>,
    past: Vec<(Duration, Chaos)>,
    start: Instant,
    clears: Instant,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chaos {
    /// The network behaves like this from now on.
    Weather(Netem),
    /// A node starts afresh, and may greet the other one.
    Restart { which: usize, greets: bool },
    /// Both nodes use this way from now on.
    Reroute(Way),
    /// A node learns of the way alone; the other one may follow, or not.
    RerouteOne(usize, Way),
    /// A node has another address from now on.
    Move(usize, u16),
    /// A node forgets the other one and is told about it again.
    Forget(usize),
    /// A node makes new keys.
    Renew(usize),
    /// The path's queue of a node is full, or is not any more.
    Fill(usize, Fullness),
    /// Nothing is wrong any longer.
    Clear(Way),
}

/// How the nodes reach each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Direct,
    Relay,
}

impl Script {
    pub(super) fn new(rng: &mut StdRng, start: Instant) -> Self {
        let clears = start + Duration::from_millis(rng.random_range(500..40_000));
        let gentle = rng.random_bool(0.4);
        let mut times: Vec<Instant> = (0..rng.random_range(0..12))
            .map(|_| start + (clears - start).mul_f64(rng.random()))
            .collect();
        times.sort();
        let mut events: VecDeque<_> = times
            .into_iter()
            .map(|at| (at, Chaos::draw(rng, gentle)))
            .collect();
        events.push_front((start, Chaos::Weather(weather(rng))));
        events.push_back((clears, Chaos::Clear(way(rng))));
        Self {
            events,
            past: Vec::new(),
            start,
            clears,
        }
    }

    /// When the weather clears.
    pub(super) fn clears(&self) -> Instant {
        self.clears
    }

    pub(super) fn is_over(&self) -> bool {
        self.events.is_empty()
    }

    /// What happens by now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Chaos> {
        self.events.front().filter(|(at, _)| *at <= now)?;
        let (at, event) = self.events.pop_front()?;
        self.past.push((at - self.start, event));
        Some(event)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.events.front().map(|(at, _)| *at)
    }
}

/// What happened, for the report of a failure.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.past
            .iter()
            .try_for_each(|(at, event)| writeln!(f, "{at:?} {event:?}"))
    }
}

impl Chaos {
    fn draw(rng: &mut StdRng, gentle: bool) -> Self {
        let which = rng.random_range(0..2);
        let kinds = if gentle { 0..8 } else { 0..11 };
        match rng.random_range(kinds) {
            0 | 1 => Self::Weather(weather(rng)),
            2 => Self::Reroute(way(rng)),
            3 => Self::RerouteOne(which, way(rng)),
            4 => Self::Move(which, rng.random_range(1000..60_000)),
            5 => Self::Renew(which),
            6 => Self::Fill(which, Fullness::Full),
            7 => Self::Fill(which, Fullness::HasRoom),
            8 | 9 => Self::Restart {
                which,
                greets: rng.random(),
            },
            _ => Self::Forget(which),
        }
    }

    /// Streams may fail after this.
    pub(super) fn is_harsh(&self) -> bool {
        matches!(self, Self::Restart { .. } | Self::Forget(_))
    }

    pub(super) fn happen(self, world: &mut World) {
        match self {
            Self::Weather(netem) => world.netem = netem,
            Self::Restart { which, greets } => {
                let path = world.nodes[1 - which]
                    .peer_stats(&public_key(which))
                    .unwrap()
                    .path;
                world.restart(which);
                let way = if path == PathKind::Relay {
                    Way::Relay
                } else {
                    Way::Direct
                };
                way.lay(world, which);
                if greets {
                    world.nodes[which].initiate(&public_key(1 - which));
                }
            }
            Self::Reroute(way) => {
                way.lay(world, A);
                way.lay(world, B);
            }
            Self::RerouteOne(which, way) => way.lay(world, which),
            Self::Move(which, port) => world.endpoints[which].set_port(port),
            Self::Forget(which) => {
                let path = world.nodes[which]
                    .peer_stats(&public_key(1 - which))
                    .unwrap()
                    .path;
                world.nodes[which].remove_peer(&public_key(1 - which));
                world.run_for(Duration::ZERO);
                world.nodes[which].upsert_peer(world.now, peer(1 - which));
                world.nodes[which].set_path(world.now, &public_key(1 - which), path);
            }
            Self::Renew(which) => world.nodes[which].initiate(&public_key(1 - which)),
            Self::Fill(which, fullness) => world.nodes[which].set_path_full(&public_key(1 - which), fullness),
            Self::Clear(way) => {
                world.netem = Netem::CLEAN;
                for which in [A, B] {
                    way.lay(world, which);
                    world.nodes[which].set_path_full(&public_key(1 - which), Fullness::HasRoom);
                }
            }
        }
    }
}

impl Way {
    fn lay(self, world: &mut World, which: usize) {
        let path = match self {
            Self::Direct => PathKind::Direct(world.endpoints[1 - which]),
            Self::Relay => PathKind::Relay,
        };
        world.nodes[which].set_path(world.now, &public_key(1 - which), path);
    }
}

fn way(rng: &mut StdRng) -> Way {
    if rng.random() { Way::Direct } else { Way::Relay }
}

fn weather(rng: &mut StdRng) -> Netem {
    let some = |rng: &mut StdRng, most: f64| {
        if rng.random() {
            rng.random_range(0.0..most)
        } else {
            0.0
        }
    };
    let loss = match rng.random_range(0..10) {
        0 => 1.0,
        1 | 2 => 0.0,
        _ => rng.random_range(0.0..0.25),
    };
    Netem {
        delay: Duration::from_micros(rng.random_range(100..120_000)),
        jitter: Duration::from_millis(40).mul_f64(some(rng, 1.0)),
        loss,
        duplicate: some(rng, 0.1),
        reorder: some(rng, 0.3),
        largest: if rng.random_bool(0.1) { 500 } else { usize::MAX },
    }
}
