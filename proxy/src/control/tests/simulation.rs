//! The applying half against a management that does its worst, in virtual time.
//!
//! A case is made of a seed alone: services come, change, break, move to other hosts and go, while streams cannot be
//! opened, are cut anywhere, in the middle of a snapshot too, repeat messages and lag. Whenever a stream is in step
//! with management, and at the latest a bounded time after the faults ceased, the published routes are exactly
//! management's mappings; connections under a route that was changed or taken away have ended; and when everything is
//! gone, nothing is held.
//!
//! `MESHGATE_SIMULATION_SEED` runs one case, `MESHGATE_SIMULATION_CASES` another number of them; a case that fails
//! prints its seed.

mod management;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use meshgate_proto::{AccountId, WgPublicKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, advance};

use self::management::Management;
use super::super::backoff::Backoff;
use super::super::sync::SyncState;
use super::*;
use crate::routing::Route;
use crate::tunnels::{RegisterError, Registrar};

/// Cases of an ordinary run.
const CASES: u64 = 300;
/// Until the routes are management's mappings, once the faults ceased: the longest wait for a stream, a snapshot.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until the tunnel of an account without services is closed.
const LINGERING: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn routes_follow_management_whatever_happens_to_the_stream() {
    let given = number("MESHGATE_SIMULATION_SEED");
    let cases = number("MESHGATE_SIMULATION_CASES").unwrap_or(if given.is_some() { 1 } else { CASES });
    for seed in (given.unwrap_or(0)..).take(usize::try_from(cases).unwrap()) {
        let case = Seed(seed);
        Simulation::new(seed).run().await;
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

/// A proxy's control half without its wire, and the management that it follows.
struct Simulation {
    rng: StdRng,
    management: Management,
    state: SyncState,
    applier: Applier,
    snapshot: Arc<ArcSwap<Snapshot>>,
    tunnels: Tunnels,
    resync: Arc<Notify>,
    started: mpsc::Receiver<Started>,
    backoff: Backoff,
    retry_at: Instant,
    /// Routes that were published at some time.
    published: Vec<Arc<Route>>,
    _keys: tempfile::TempDir,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let (starter, started) = HandStarter::new();
        let resolver = Arc::new(CertResolver::new(Arc::new(CertStore::new())));
        let board = Arc::new(StatusBoard::new(Arc::default(), resolver));
        let resync = Arc::new(Notify::new());
        let tunnels = Tunnels::new(TunnelParts {
            registrar: Arc::new(Moody(AtomicU64::new(seed))),
            starter,
            observer: Arc::<StatusBoard>::clone(&board),
            resync: Arc::clone(&resync),
            key_dir: keys.path().to_owned(),
            max_dial: None,
            allow_direct: Arc::default(),
        });
        let table = RouteTable::default();
        let snapshot = Arc::clone(table.shared());
        Self {
            rng: StdRng::seed_from_u64(seed),
            management: Management::default(),
            state: SyncState::default(),
            applier: Applier::new(table, tunnels.clone(), board),
            snapshot,
            tunnels,
            resync,
            started,
            backoff: Backoff::default(),
            retry_at: Instant::now(),
            published: Vec::new(),
            _keys: keys,
        }
    }

    async fn run(mut self) {
        let ceases = Instant::now() + Duration::from_secs(self.rng.random_range(1..90));
        while Instant::now() < ceases {
            if self.rng.random_bool(0.3) {
                self.management.change(&mut self.rng);
            }
            self.turn(Weather::Foul).await;
        }

        let deadline = Instant::now() + PATIENCE;
        while !self.is_in_step() {
            assert!(Instant::now() < deadline, "not in step after {PATIENCE:?}");
            self.turn(Weather::Fair).await;
        }
        self.check_routes();

        for _ in 0..5 {
            self.management.change(&mut self.rng);
            self.catch_up().await;
        }
        self.management.remove_all();
        self.catch_up().await;
        self.check_nothing_is_left().await;
    }

    /// One thing happens on the stream.
    async fn turn(&mut self, weather: Weather) {
        let pause = self.rng.random_range(0..400);
        advance(Duration::from_millis(pause)).await;
        while self.started.try_recv().is_ok() {}
        if !self.management.is_connected() {
            if Instant::now() >= self.retry_at {
                self.open(weather);
            }
            return;
        }
        let wants_snapshot = !self.state.is_in_snapshot() && self.resync.notified().now_or_never().is_some();
        if wants_snapshot || self.happens(weather, 0.06) || self.management.lags() {
            return self.end();
        }
        let repeats = self.happens(weather, 0.1);
        if let Some(batch) = self.management.next_message(repeats) {
            self.take(batch);
        }
        if self.is_in_step() {
            self.check_routes();
        }
    }

    fn happens(&mut self, weather: Weather, share: f64) -> bool {
        weather == Weather::Foul && self.rng.random_bool(share)
    }

    fn open(&mut self, weather: Weather) {
        if self.happens(weather, 0.4) {
            return self.end();
        }
        let size = self.rng.random_range(1..6);
        self.management.connect(size);
        self.state.handle_started();
        // A wish from before this stream is what its snapshot fulfils.
        let _ = self.resync.notified().now_or_never();
    }

    fn end(&mut self) {
        self.management.disconnect();
        self.state.handle_ended();
        self.retry_at = Instant::now() + self.backoff.next(&mut self.rng);
    }

    /// As the session does with a message.
    fn take(&mut self, batch: meshgate_proto::MappingBatch) {
        let was_in_snapshot = self.state.is_in_snapshot();
        self.applier.apply(self.state.handle_batch(batch));
        if was_in_snapshot && !self.state.is_in_snapshot() {
            self.applier.snapshot_complete();
        }
        self.backoff.reset();
        self.published.extend(self.snapshot.load().routes().cloned());
    }

    /// Everything that management has said has arrived.
    fn is_in_step(&self) -> bool {
        self.management.is_connected() && self.management.is_through() && !self.state.is_in_snapshot()
    }

    async fn catch_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn(Weather::Fair).await;
            if self.is_in_step() {
                break;
            }
            assert!(Instant::now() < deadline, "not in step after {PATIENCE:?}");
        }
        self.check_routes();
    }

    fn check_routes(&mut self) {
        let snapshot = self.snapshot.load();
        self.management.check(&snapshot);
        assert_eq!(self.state.len(), self.management.len());
        self.published.retain(|route| {
            let current = self.management.still_says(route);
            assert!(
                current || route.closed.is_cancelled(),
                "connections live on under a route that is no more: {route:?}"
            );
            current
        });
    }

    async fn check_nothing_is_left(&mut self) {
        for _ in 0..LINGERING.as_secs() {
            advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(self.snapshot.load().routes().count(), 0);
        assert_eq!(self.state.len(), 0);
        assert_eq!(self.applier.held(), 0);
        let tunnels = self.tunnels.summaries();
        assert!(tunnels.is_empty(), "{tunnels:?}");
        self.tunnels.stop().await;
    }
}

/// Whether faults happen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    Foul,
    Fair,
}

/// Registers some keys, and refuses others for this reason or that.
#[derive(Debug)]
struct Moody(AtomicU64);

#[async_trait]
impl Registrar for Moody {
    async fn create_peer(
        &self,
        _: &AccountId,
        _: &meshgate_proto::ServiceId,
        _: &Secret<String>,
        _: WgPublicKey,
    ) -> Result<(), RegisterError> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => Err(RegisterError::TokenUsed),
            1 => Err(RegisterError::Failed("no".into())),
            _ => Ok(()),
        }
    }
}
