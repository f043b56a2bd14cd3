//! Two peers' machines against a signal server, a relay and a network that do their worst, in virtual time.
//!
//! A case is made of a seed alone: signals are lost, late, doubled and overtake each other, relay connections drop and
//! return, direct paths come and go, peers restart and park, applications dial whenever they like. Once the faults
//! cease, and as long as anybody dials:
//!
//! * whoever dials is connected within a bound, by a way that leads to the other, and its data is answered;
//! * nobody leaves that way again, and nobody is told that the peer is gone;
//! * both agree with their netstacks, which follow a peer to another address by themselves;
//! * what the machines keep, say and want done stays bounded, all the time.
//!
//! `MESHGATE_SIMULATION_SEED` runs one case, `MESHGATE_SIMULATION_CASES` another number of them; a case that fails
//! prints its seed.

mod world;

use std::num::NonZero;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::world::{Weather, World};

/// Cases of an ordinary run.
const CASES: u64 = 4000;
/// From the end of the faults to answered data, as long as somebody dials: the patience with a relay that returned, the
/// time after which a peer counts as frozen, and a try after that.
const PATIENCE: Duration = Duration::from_secs(20);
/// From then on a better way may still take over.
const SETTLING: Duration = Duration::from_secs(20);
/// And this long nothing changes any more, and nothing is said.
const STEADY: Duration = Duration::from_mins(2);

#[test]
fn both_sides_meet_once_the_faults_cease() {
    let given = number("MESHGATE_SIMULATION_SEED");
    let cases = number("MESHGATE_SIMULATION_CASES").unwrap_or(if given.is_some() { 1 } else { CASES });
    let first = given.unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = (first..first + cases).skip(thread).step_by(threads);
            scope.spawn(move || seeds.for_each(run_case));
        }
    });
}

fn run_case(seed: u64) {
    let case = Seed(seed);
    run(seed);
    drop(case);
}

/// Tells the seed of a case that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The case failed with MESHGATE_SIMULATION_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut world = World::new(seed);
    let ceases = world.now + Duration::from_millis(rng.random_range(0..60_000));
    while world.now < ceases {
        world.disturb(&mut rng);
        world.run_for(Duration::from_millis(rng.random_range(1..4000)));
    }

    world.calm(Weather::fair(&mut rng), rng.random_range(1..4));
    meet(&mut world);
    if rng.random_bool(0.2) {
        world.move_house(rng.random_range(0..2), 2000);
        world.run_for(Duration::from_secs(4));
        meet(&mut world);
    }
    world.run_for(SETTLING);
    let before = (world.changes, world.said);

    world.run_for(STEADY);

    assert!(world.is_met(), "{world:#?}");
    assert_eq!(
        (world.changes, world.said),
        before,
        "a way that works is left, or talked about: {world:#?}"
    );
}

fn meet(world: &mut World) {
    let deadline = world.now + PATIENCE;
    while !world.is_met() {
        assert!(world.now < deadline, "not met after {PATIENCE:?}: {world:#?}");
        world.run_for(Duration::from_millis(250));
    }
}
