//! The way to management: streams that open late, not at all, or of the older kind only.

use std::time::Duration;

use async_trait::async_trait;
use meshgate_proto::{MappingBatch, ProxyHello};
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng as _};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::management::Management;
use crate::control::CallError;
use crate::control::stream::{MappingStream, Opener};

/// Half of the shortest wait between two streams.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// What becomes of tries to open a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    refusals: f64,
    /// Longest answer, in milliseconds.
    slowest: u64,
    /// The server knows the newer call.
    knows_sync: bool,
    /// If not, it begins an answer before it says so.
    says_late: bool,
}

impl Weather {
    pub(super) fn foul(rng: &mut SmallRng) -> Self {
        Self {
            refusals: rng.random_range(0.0..0.8),
            slowest: if rng.random_bool(0.2) { 20_000 } else { 500 },
            knows_sync: rng.random_bool(0.7),
            says_late: rng.random_bool(0.5),
        }
    }
}

/// Management with the way to it.
#[derive(Debug)]
pub(super) struct Link {
    management: Mutex<Management>,
    chance: Mutex<Chance>,
    address: String,
}

#[derive(Debug)]
struct Chance {
    rng: SmallRng,
    tries: u32,
    last: Option<Instant>,
}

impl Link {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
        Self {
            management: Mutex::new(Management::new(Weather::foul(&mut rng))),
            chance: Mutex::new(Chance {
                rng,
                tries: 0,
                last: None,
            }),
            address: "http://management.test".into(),
        }
    }

    pub(super) fn management(&self) -> MutexGuard<'_, Management> {
        self.management.lock()
    }

    /// The faults cease; the server stays as old as it is.
    pub(super) fn calm(&self) {
        let weather = &mut self.management().weather;
        (weather.refusals, weather.slowest) = (0.0, 50);
    }

    async fn wait(&self, code: Code) -> Result<(), CallError> {
        let weather = self.management().weather;
        let (late, is_refused) = {
            let rng = &mut self.chance.lock().rng;
            (
                rng.random_range(1..weather.slowest),
                rng.random_bool(weather.refusals),
            )
        };
        sleep(Duration::from_millis(late)).await;
        if is_refused {
            return Err(refusal(code));
        }
        Ok(())
    }

    fn connect(&self, with_acks: bool) -> MappingStream {
        let size = self.chance.lock().rng.random_range(1..6);
        self.management().connect(size, with_acks, self.address())
    }
}

#[async_trait]
impl Opener for Link {
    async fn sync_mappings(&self, _: ProxyHello) -> Result<MappingStream, CallError> {
        let tries = {
            let mut chance = self.chance.lock();
            let now = Instant::now();
            assert!(
                chance.last.is_none_or(|last| now - last >= SHORTEST_WAIT),
                "tries without a pause"
            );
            chance.last = Some(now);
            chance.tries += 1;
            chance.tries
        };
        // A first try that is refused for good would be the last.
        let code = match tries % 4 {
            1 => Code::Unavailable,
            2 => Code::Unauthenticated,
            3 => Code::DeadlineExceeded,
            _ => Code::Unimplemented,
        };
        self.wait(code).await?;
        let weather = self.management().weather;
        if !weather.knows_sync && weather.says_late {
            let unknown = Status::new(Code::Unimplemented, "no such call");
            let messages = futures::stream::iter([Err::<MappingBatch, _>(unknown)]);
            return Ok(MappingStream::new(messages, None, self.address()));
        }
        if !weather.knows_sync {
            return Err(refusal(Code::Unimplemented));
        }
        Ok(self.connect(true))
    }

    async fn mapping_updates(&self, _: ProxyHello) -> Result<MappingStream, CallError> {
        self.wait(Code::Unimplemented).await?;
        Ok(self.connect(false))
    }

    fn address(&self) -> &str {
        &self.address
    }
}

fn refusal(code: Code) -> CallError {
    CallError::new("http://management.test", &Status::new(code, "not now"))
}
