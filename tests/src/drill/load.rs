//! A steady load of every kind: lanes that do one thing after the other and write down what became of it.

mod http;
mod socket;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::ledger::{Kind, Ledger};
use crate::{Client, Deployment, HttpVersion};

/// Between two requests of a lane.
const PACE: Duration = Duration::from_millis(25);

/// After a loss.
const BREATH: Duration = Duration::from_millis(50);

/// Longest wait for anything: longer than any fault lasts, so that only what never comes runs into it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The ledger that lanes share with who reads it.
pub(super) type SharedLedger = Arc<Mutex<Ledger>>;

/// The load; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Load {
    _lanes: JoinSet<()>,
}

impl Load {
    /// Starts every lane against a service of the origin.
    pub(super) fn start(deployment: &Deployment, domain: &str, ledger: &SharedLedger) -> Self {
        let mut lanes = JoinSet::new();
        let log = |name: String, kind: Kind| {
            let lane = ledger.lock().add_lane(name, kind, Instant::now());
            Log {
                ledger: Arc::clone(ledger),
                lane,
            }
        };
        for version in HttpVersion::ALL {
            let target = Target {
                client: deployment.client(version),
                edge: Edge {
                    ca_file: deployment.ca_file(),
                    address: deployment.edge(),
                },
                domain: domain.to_owned(),
            };
            let names = |what: &str| format!("{what} {version:?}");
            lanes.spawn(http::get(log(names("GET"), Kind::Http), target.clone()));
            lanes.spawn(http::post(log(names("POST"), Kind::Http), target.clone()));
            lanes.spawn(stream::events(log(names("events"), Kind::Stream), target.clone()));
            lanes.spawn(stream::download(
                log(names("download"), Kind::Stream),
                target.clone(),
            ));
            lanes.spawn(stream::upload(log(names("upload"), Kind::Stream), target.clone()));
            lanes.spawn(socket::echo(
                log(format!("WebSocket {}", lanes.len()), Kind::WebSocket),
                target,
            ));
        }
        lanes.spawn(stream::tick(deployment.origin.sender(stream::CHANNEL)));
        Self { _lanes: lanes }
    }
}

/// Where a lane sends.
#[derive(Clone, Debug)]
struct Target {
    client: Client,
    edge: Edge,
    domain: String,
}

/// The edge, for what is no HTTP client.
#[derive(Clone, Debug)]
struct Edge {
    ca_file: PathBuf,
    address: std::net::SocketAddr,
}

/// Where a lane writes.
#[derive(Debug)]
struct Log {
    ledger: SharedLedger,
    lane: usize,
}

impl Log {
    /// Writes down how something ended that began then, and waits for the next turn.
    async fn end<T>(&self, begun: Instant, result: Result<T, String>, pace: Duration) -> Option<T> {
        let now = Instant::now();
        match result {
            Ok(value) => {
                self.ledger.lock().handle_success(self.lane, begun, now);
                tokio::time::sleep(pace).await;
                Some(value)
            }
            Err(why) => {
                self.ledger.lock().handle_loss(self.lane, begun, now, &why);
                tokio::time::sleep(BREATH).await;
                None
            }
        }
    }

    /// Writes down that a part of something long arrived.
    fn progress(&self, begun: Instant) {
        let now = Instant::now();
        self.ledger.lock().handle_progress(self.lane, begun, now);
    }
}

/// Waits for something, but not for ever.
async fn patiently<T>(what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let result = tokio::time::timeout(PATIENCE, what).await;
    result.unwrap_or_else(|_| Err(format!("nothing came for {PATIENCE:?}")))
}
