//! Keeps a peer in a restart loop from keeping the server busy.
//!
//! Counted by key, which the box has proved, so no peer can use up the calls of another. Memory is bounded:
//! of many keys the ones unused longest are forgotten, which is to their good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshgate_proto::WgPublicKey;
use moka::sync::Cache;
use parking_lot::Mutex;
use tonic::Status;

/// Keys that are remembered.
const CAPACITY: u64 = 16_384;
/// Calls at once after a quiet time. A start takes three logins and one sync.
const BURST: f64 = 60.0;
/// Calls a second after that.
const PER_SECOND: f64 = 1.0;
/// Time after which a quiet key is forgotten.
const FORGET: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(super) struct CallLimits {
    logins: Cache<WgPublicKey, Arc<Mutex<Bucket>>>,
    syncs: Cache<WgPublicKey, Arc<Mutex<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl CallLimits {
    pub(super) fn new() -> Self {
        let cache = || {
            Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_idle(FORGET)
                .build()
        };
        Self {
            logins: cache(),
            syncs: cache(),
        }
    }

    pub(super) fn login(&self, key: WgPublicKey) -> Result<(), Status> {
        take(&self.logins, key, Instant::now())
    }

    pub(super) fn sync(&self, key: WgPublicKey) -> Result<(), Status> {
        take(&self.syncs, key, Instant::now())
    }
}

fn take(
    buckets: &Cache<WgPublicKey, Arc<Mutex<Bucket>>>,
    key: WgPublicKey,
    now: Instant,
) -> Result<(), Status> {
    let bucket = buckets.get_with(key, || Arc::new(Mutex::new(Bucket { left: BURST, at: now })));
    let mut bucket = bucket.lock();
    let refilled = now.saturating_duration_since(bucket.at).as_secs_f64() * PER_SECOND;
    bucket.left = (bucket.left + refilled).min(BURST);
    bucket.at = now;
    if bucket.left < 1.0 {
        return Err(Status::resource_exhausted(
            "too many calls of this peer, try again later",
        ));
    }
    bucket.left -= 1.0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_loops_locks_out_itself_only() {
        let limits = CallLimits::new();
        let (looping, other) = (WgPublicKey::from_bytes([1; 32]), WgPublicKey::from_bytes([2; 32]));

        let refused = (0..100).filter(|_| limits.login(looping).is_err()).count();

        assert!(refused >= 35, "{refused}");
        assert!(limits.login(other).is_ok());
        assert!(limits.sync(looping).is_ok());
    }

    #[test]
    fn a_bucket_fills_again() {
        let limits = CallLimits::new();
        let key = WgPublicKey::from_bytes([1; 32]);
        let start = Instant::now();
        while take(&limits.logins, key, start).is_ok() {}

        assert!(take(&limits.logins, key, start + Duration::from_secs(2)).is_ok());
    }
}
