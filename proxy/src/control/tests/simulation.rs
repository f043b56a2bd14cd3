//! The control half, its own loop included, against a management that does its worst, in virtual time.
//!
//! A case is made of a seed alone: services come, change, break, move to other hosts and go, while streams cannot be
//! opened, open late, are of the older kind, fail anywhere, in the middle of a snapshot too, repeat messages, carry
//! nonsense, stall and lag, and management returns with what it knew long ago. All the time:
//!
//! * the published routes are exactly what the messages say that were taken so far, no more and no less;
//! * each message that was taken is acknowledged, once, after it was applied;
//! * connections under a route that was changed or taken away have ended;
//! * tries to open a stream keep a distance.
//!
//! And a bounded time after the faults ceased the routes are management's mappings and stay so on one stream; when
//! everything is gone, nothing is held, and no task is left.
//!
//! `MESHGATE_SIMULATION_SEED` runs one case, `MESHGATE_SIMULATION_CASES` another number of them; a case that fails
//! prints its seed.

mod link;
mod management;
mod said;

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use meshgate_mesh::PermanentFailure;
use meshgate_proto::{AccountId, ServiceId, WgPublicKey};
use rand::Rng;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::link::{Link, Weather};
use super::*;
use crate::routing::Route;
use crate::tunnels::{RegisterError, Registrar};

/// Cases of an ordinary run.
const CASES: u64 = 2000;
/// Until the routes are management's mappings, once the faults ceased: the slowest answer, the longest wait after it.
const PATIENCE: Duration = Duration::from_secs(45);
/// Until every tunnel is registered, after the longest wait between two tries.
const SETTLING: Duration = Duration::from_mins(2);
/// And this long nothing happens any more.
const STEADY: Duration = Duration::from_mins(5);
/// Until the tunnel of an account without services is closed.
const LINGERING: Duration = Duration::from_mins(1);

#[test]
fn routes_follow_management_whatever_happens_to_the_stream() {
    let given = number("MESHGATE_SIMULATION_SEED");
    let cases = number("MESHGATE_SIMULATION_CASES").unwrap_or(if given.is_some() { 1 } else { CASES });
    let first = given.unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = (first..first + cases).skip(thread).step_by(threads);
            scope.spawn(move || run_cases(seeds));
        }
    });
}

fn run_cases(seeds: impl Iterator<Item = u64>) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let keys = tempfile::tempdir().unwrap();
    for seed in seeds {
        let case = Seed(seed);
        runtime.block_on(async { Simulation::new(seed, keys.path()).run().await });
        drop(case);
    }
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

/// A proxy's control half, and the management that it follows.
struct Simulation {
    rng: SmallRng,
    link: Arc<Link>,
    control: JoinHandle<Control>,
    stop: CancellationToken,
    health: Arc<Health>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    tunnels: Tunnels,
    started: mpsc::Receiver<Started>,
    calm: Arc<AtomicBool>,
    /// Routes that were published at some time and are still said.
    published: Vec<Arc<Route>>,
}

impl Simulation {
    fn new(seed: u64, keys: &Path) -> Self {
        let (starter, started) = HandStarter::new();
        let resolver = Arc::new(CertResolver::new(Arc::new(CertStore::new())));
        let board = Arc::new(StatusBoard::new(Arc::default(), resolver));
        let resync = Arc::new(Notify::new());
        let calm = Arc::new(AtomicBool::new(false));
        let tunnels = Tunnels::new(TunnelParts {
            registrar: Arc::new(Moody {
                calls: AtomicU64::new(seed),
                calm: Arc::clone(&calm),
            }),
            starter,
            observer: Arc::<StatusBoard>::clone(&board),
            resync: Arc::clone(&resync),
            key_dir: keys.to_owned(),
            max_dial: None,
            allow_direct: Arc::default(),
        });
        let table = RouteTable::default();
        let snapshot = Arc::clone(table.shared());
        let health = Arc::new(Health::default());
        let link = Arc::new(Link::new(seed));
        let mut control = Control {
            management: Arc::<Link>::clone(&link),
            hello: hello(),
            applier: Applier::new(table, tunnels.clone(), board),
            health: Arc::clone(&health),
            resync,
            state: SyncState::default(),
            rng: SmallRng::seed_from_u64(seed),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let control = tokio::spawn(async move {
            control.run(oneshot::channel().0, stopped).await;
            control
        });
        Self {
            rng: SmallRng::seed_from_u64(seed),
            link,
            control,
            stop,
            health,
            snapshot,
            tunnels,
            started,
            calm,
            published: Vec::new(),
        }
    }

    async fn run(mut self) {
        let longest = if self.rng.random_bool(0.1) { 60_000 } else { 12_000 };
        let ceases = Instant::now() + Duration::from_millis(self.rng.random_range(500..longest));
        while Instant::now() < ceases {
            if self.rng.random_bool(0.3) {
                self.link.management().change(&mut self.rng);
            }
            let pause = match self.rng.random_range(0..40) {
                0 => self.rng.random_range(2_000..12_000),
                _ => self.rng.random_range(1..600),
            };
            self.turn(Duration::from_millis(pause)).await;
            self.disturb();
        }

        self.link.calm();
        self.calm.store(true, Ordering::Relaxed);
        self.catch_up().await;
        for _ in 0..2 {
            self.link.management().change(&mut self.rng);
            self.catch_up().await;
        }
        self.stay().await;
        self.link.management().remove_all();
        self.catch_up().await;
        self.check_nothing_is_left().await;
    }

    /// Some time passes, and what management has to say is said. Time moves only once the proxy has nothing to do.
    async fn turn(&mut self, pause: Duration) {
        sleep(pause).await;
        while let Ok(started) = self.started.try_recv() {
            started.tunnel.become_ready();
            if !self.calm.load(Ordering::Relaxed) && self.rng.random_bool(0.2) {
                started.tunnel.status.send_modify(|status| {
                    status.permanent = Some(PermanentFailure::Removed {
                        management: "http://m:80".into(),
                        reason: "deleted".into(),
                    });
                });
            }
        }
        self.check();
        self.link.management().deliver(&mut self.rng);
    }

    fn disturb(&mut self) {
        let mut management = self.link.management();
        match self.rng.random_range(0..100) {
            0..6 => management.fail(&mut self.rng),
            6..8 => management.restart(&mut self.rng),
            8..10 => management.remember(),
            10..15 => management.repeat(),
            15..18 => management.talk_nonsense(),
            18..21 => management.weather = Weather::foul(&mut self.rng),
            _ => {}
        }
    }

    async fn catch_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn(Duration::from_millis(200)).await;
            if self.link.management().is_in_step() {
                break;
            }
            assert!(Instant::now() < deadline, "not in step after {PATIENCE:?}");
        }
        assert!(self.health.is_synced() && self.health.is_connected());
    }

    /// Nothing is left to do: one stream holds, and nothing is published.
    async fn stay(&mut self) {
        self.turn_for(SETTLING).await;
        let before = (self.link.management().opened(), self.snapshot.load_full());

        self.turn_for(STEADY).await;

        assert_eq!(self.link.management().opened(), before.0, "streams come and go");
        assert!(Arc::ptr_eq(&before.1, &self.snapshot.load()), "nothing changed");
        assert!(self.link.management().is_in_step());
    }

    /// Some turns that take so long together.
    async fn turn_for(&mut self, time: Duration) {
        const TURNS: u32 = 6;
        for _ in 0..TURNS {
            self.turn(time / TURNS).await;
        }
    }

    /// Everything that the proxy took is acknowledged and in force, and nothing else is.
    fn check(&mut self) {
        let mut management = self.link.management();
        let is_news = management.settle();
        assert_eq!(self.health.is_connected(), management.is_held());
        let snapshot = self.snapshot.load();
        if !is_news {
            return;
        }
        let told = management.told();
        told.check(&snapshot);
        self.published.retain(|route| {
            let current = told.says(route);
            assert!(
                current || route.closed.is_cancelled(),
                "connections live on under a route that is no more: {route:?}"
            );
            current
        });
        for route in snapshot.routes() {
            if !self.published.iter().any(|known| Arc::ptr_eq(known, route)) {
                self.published.push(Arc::clone(route));
            }
        }
    }

    async fn check_nothing_is_left(mut self) {
        self.turn_for(LINGERING).await;
        assert_eq!(self.snapshot.load().routes().count(), 0);
        let tunnels = self.tunnels.summaries();
        assert!(tunnels.is_empty(), "{tunnels:?}");
        self.stop.cancel();
        let control = self.control.await.unwrap();
        assert_eq!((control.state.len(), control.applier.held()), (0, 0));
        self.tunnels.stop().await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}

/// Registers some keys, and refuses others for this reason or that.
#[derive(Debug)]
struct Moody {
    calls: AtomicU64,
    calm: Arc<AtomicBool>,
}

#[async_trait]
impl Registrar for Moody {
    async fn create_peer(
        &self,
        _: &AccountId,
        _: &ServiceId,
        _: &Secret<String>,
        _: WgPublicKey,
    ) -> Result<(), RegisterError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match call % 5 {
            _ if self.calm.load(Ordering::Relaxed) => Ok(()),
            0 => Err(RegisterError::TokenUsed),
            1 => Err(RegisterError::Failed("no".into())),
            _ => Ok(()),
        }
    }
}
