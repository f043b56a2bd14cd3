//! Random conversations over a network that does its worst.
//!
//! A case is made of a seed alone: the size of buffers and packets, some conversations of both sides, and what happens
//! to them until the weather clears: loss, duplicates, late packets, black holes, narrow paths, other paths and
//! addresses, restarts, removals. After that, in bounded time of the virtual clock:
//!
//! * every byte came in order, and a stream's end came after all of them or as an error;
//! * every side of every conversation ended, and was told so by a wake-up;
//! * a case without a restart, a removal or a silent peer lost nothing;
//! * a new conversation works at once;
//! * nothing is left of what ended.
//!
//! `MESHGATE_SIMULATION_SEED` runs one case, `MESHGATE_SIMULATION_CASES` another number of them; together they run so
//! many cases from that seed on. A case that fails prints its seed.

mod chaos;
mod conversation;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meshgate_netstack_core::{Buffers, Event, ListenOn, Silence, Stream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::chaos::{Chaos, Script};
use self::conversation::{Conversation, End};
use crate::streams::{SECONDS, read_all, write};
use crate::world::*;

/// Cases of an ordinary run.
const CASES: u64 = 2000;
/// The port that both nodes listen on.
const PORT: u16 = 7;
/// Until everything that began ended, once the weather cleared: the longest pause of TCP, and some more.
const PATIENCE: Duration = Duration::from_secs(100);
/// Until nothing is left of connections that everybody dropped: the time after which TCP gives up, and some more.
const LINGERING: Duration = Duration::from_secs(130);

#[test]
fn conversations_survive_whatever_the_network_does() {
    let given = number("MESHGATE_SIMULATION_SEED");
    let cases = number("MESHGATE_SIMULATION_CASES").unwrap_or(if given.is_some() { 1 } else { CASES });
    let first = given.unwrap_or(0);
    let done = AtomicU64::new(0);
    let next = || Some(done.fetch_add(1, Ordering::Relaxed)).filter(|done| *done < cases);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(number) = next() {
                    let case = Seed(first + number);
                    Simulation::new(case.0).run();
                    drop(case);
                }
            });
        }
    });
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

struct Simulation {
    world: World,
    script: Script,
    conversations: Vec<Conversation>,
    /// Something happened after which streams may fail.
    harsh: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let silence = if rng.random_bool(0.5) {
            Silence::FailStreams
        } else {
            Silence::Report
        };
        let settings = Settings {
            silence,
            buffers: Buffers {
                receive: 1 << rng.random_range(12..18),
                transmit: 1 << rng.random_range(12..18),
            },
            mtu: [576, 1280, 1280, 1420][rng.random_range(0..4)],
        };
        let mut world = World::with(seed, settings);
        for node in &mut world.nodes {
            node.listen(ListenOn::Port(PORT)).unwrap();
        }
        let script = Script::new(&mut rng, world.now);
        let conversations = (0..rng.random_range(1..6))
            .map(|number| Conversation::new(number, &mut rng, world.now, script.clears()))
            .collect();
        Self {
            world,
            script,
            conversations,
            harsh: false,
        }
    }

    fn run(mut self) {
        let cleared = self.script.clears() + Duration::from_millis(1);
        self.run_until(cleared, |_| false);
        assert!(self.script.is_over());

        let deadline = self.world.now + PATIENCE;
        self.run_until(deadline, |conversations| {
            conversations.iter().all(Conversation::has_ended)
        });

        self.check_ends();
        self.check_fresh_conversation();
        self.check_nothing_is_left();
    }

    /// Runs until `done` holds or the deadline passed.
    fn run_until(&mut self, deadline: Instant, done: impl Fn(&[Conversation]) -> bool) {
        while self.world.now < deadline && !done(&self.conversations) {
            while let Some(event) = self.script.next(self.world.now) {
                self.harsh |= event.is_harsh();
                self.happen(event);
            }
            self.meet();
            for conversation in &mut self.conversations {
                conversation.act(&mut self.world);
            }
            let now = self.world.now;
            let actions = self.conversations.iter().filter_map(Conversation::next_action);
            let next = actions.chain(self.script.due()).chain([deadline]).min();
            self.world
                .step(next.unwrap_or(deadline).max(now + Duration::from_micros(1)));
        }
    }

    fn happen(&mut self, event: Chaos) {
        if let Chaos::Restart { which, .. } = event {
            for conversation in &mut self.conversations {
                conversation.forget(which);
            }
        }
        event.happen(&mut self.world);
        if let Chaos::Restart { which, .. } = event {
            self.world.nodes[which].listen(ListenOn::Port(PORT)).unwrap();
        }
    }

    /// Hands accepted connections to their conversations.
    fn meet(&mut self) {
        for which in [A, B] {
            for stream in std::mem::take(&mut self.world.accepted[which]) {
                let dialed = self
                    .conversations
                    .iter_mut()
                    .find(|conversation| conversation.dialed_from(1 - which, stream.peer_addr()));
                if let Some(conversation) = dialed {
                    conversation.accept(stream);
                }
            }
        }
    }

    fn check_ends(&self) {
        let silent = self.world.events.concat();
        let silent = silent
            .iter()
            .any(|event| matches!(event, Event::PeerSilent { .. }));
        for conversation in &self.conversations {
            assert!(
                conversation.has_ended(),
                "stuck {:?} after the weather cleared: {conversation:#?}\n{:?}",
                PATIENCE,
                self.script
            );
            let whole = conversation.ends().iter().all(|end| *end == End::Whole);
            assert!(
                whole || self.harsh || silent || conversation.may_fail(),
                "broken although nothing happened to it: {conversation:#?}\n{:?}",
                self.script
            );
        }
    }

    fn check_fresh_conversation(&mut self) {
        for from in [A, B] {
            let started = self.world.now;
            let ours = self.world.dial(from, PORT, SECONDS * 30);
            self.world.finish_dial(&ours).unwrap();
            write(&ours, b"fresh");
            ours.shutdown();
            let is_theirs = |stream: &Stream| stream.peer_addr() == ours.local_addr();
            self.world
                .run_until(SECONDS, |world| world.accepted[1 - from].iter().any(is_theirs));
            let accepted = &mut self.world.accepted[1 - from];
            let at = accepted.iter().position(is_theirs).unwrap();
            let theirs = accepted.remove(at);
            assert_eq!(read_all(&mut self.world, &theirs).unwrap(), b"fresh");

            let took = self.world.now - started;
            assert!(took < SECONDS * 2, "a fresh conversation took {took:?}");
        }
    }

    fn check_nothing_is_left(&mut self) {
        self.conversations.clear();
        self.world.accepted.iter_mut().for_each(Vec::clear);
        self.world.run_for(LINGERING);
        for (which, node) in self.world.nodes.iter().enumerate() {
            let stats = node.stats();
            assert_eq!(stats.connections, 0, "node {which}");
            assert_eq!(stats.timers, 0, "node {which}");
            assert_eq!(stats.half_open, 0, "node {which}");
        }
    }
}
