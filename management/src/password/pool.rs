//! Threads that do nothing but argon2id.
//!
//! What an operator sets goes before what strangers guess, and each line (a service) may have only a few
//! guesses in the pool, so one attacked service neither blocks the API nor the logins of its neighbours.
//! When the queue is full the newcomer is refused at once; nothing waits outside.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use argon2::Block;
use async_trait::async_trait;
use meshgate_proto::Secret;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::phc::{self, PasswordHash};

/// Longest secret that is looked at, in bytes.
pub const MAX_SECRET_LEN: usize = 4096;
/// A thread without work gives its memory back after this time.
const IDLE: Duration = Duration::from_mins(1);

/// Sizes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Threads; each holds one memory area of 19 MiB while it has work.
    pub threads: usize,
    /// Jobs of each kind (setting, guessing) that may wait.
    pub queue: usize,
    /// Guesses of one line that may wait or run.
    pub per_line: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            threads: 2,
            queue: 64,
            per_line: 8,
        }
    }
}

/// What a pool has done; for tests and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Memory areas that exist now.
    pub areas: usize,
    /// Most memory areas that ever existed at once.
    pub most_areas: usize,
    /// Computations done.
    pub done: usize,
    /// Jobs that found no place.
    pub refused: usize,
}

/// Why a secret was neither hashed nor compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting; try again.
    #[error("too many password checks are waiting")]
    Busy,
    /// It cannot be done, now or later.
    #[error("password check failed: {0}")]
    Failed(PasswordFault),
}

/// What makes a check impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// Longer than [`MAX_SECRET_LEN`].
    #[error("secret is longer than {MAX_SECRET_LEN} bytes")]
    TooLong,
    /// The stored hash is damaged or asks for too much.
    #[error("stored hash cannot be used")]
    UnusableHash,
    /// The pool is shut down, or the check panicked.
    #[error("password checks are shut down")]
    Closed,
}

impl From<PasswordFault> for PasswordError {
    fn from(fault: PasswordFault) -> Self {
        Self::Failed(fault)
    }
}

/// Hashes what operators set; the use-cases' view of a [`PasswordPool`].
#[async_trait]
pub trait PasswordHasher: Send + Sync + std::fmt::Debug {
    /// Hashes a secret.
    async fn hash(&self, secret: Secret<String>) -> Result<PasswordHash, PasswordError>;

    /// True when the hash is one of the secret.
    async fn matches(&self, secret: Secret<String>, hash: PasswordHash) -> Result<bool, PasswordError>;
}

#[async_trait]
impl PasswordHasher for PasswordPool {
    async fn hash(&self, secret: Secret<String>) -> Result<PasswordHash, PasswordError> {
        Self::hash(self, secret).await
    }

    async fn matches(&self, secret: Secret<String>, hash: PasswordHash) -> Result<bool, PasswordError> {
        self.verify(OPERATORS, secret, vec![hash]).await
    }
}

/// The line in which operators' secrets stand.
const OPERATORS: &str = "operators";

/// Handle to the threads; they end with its last clone.
#[derive(Clone, Debug)]
pub struct PasswordPool(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl PasswordPool {
    /// Starts the threads.
    pub fn start(limits: PoolLimits) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            limits,
            ..Shared::default()
        });
        let pool = Self(Arc::new(Handle {
            shared: Arc::clone(&shared),
        }));
        for number in 0..limits.threads.max(1) {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Hashes a secret that an operator sets.
    pub async fn hash(&self, secret: Secret<String>) -> Result<PasswordHash, PasswordError> {
        check_length(&secret)?;
        let (reply, answer) = oneshot::channel();
        self.0.shared.push(Job::Hash { secret, reply })?;
        answer.await.map_err(|_| PasswordFault::Closed.into())
    }

    /// True when the secret matches one of the hashes. `line` says whose queue it stands in.
    ///
    /// # Errors
    /// [`PasswordFault::UnusableHash`] when a hash is damaged and none of the others matches.
    pub async fn verify(
        &self,
        line: &str,
        secret: Secret<String>,
        hashes: Vec<PasswordHash>,
    ) -> Result<bool, PasswordError> {
        check_length(&secret)?;
        let (reply, answer) = oneshot::channel();
        self.0.shared.push(Job::Verify {
            line: line.to_owned(),
            secret,
            hashes,
            reply,
        })?;
        answer.await.map_err(|_| PasswordFault::Closed)?
    }

    /// What the pool has done.
    pub fn stats(&self) -> PoolStats {
        let counters = &self.0.shared.counters;
        PoolStats {
            areas: counters.areas.load(Ordering::Relaxed),
            most_areas: counters.most_areas.load(Ordering::Relaxed),
            done: counters.done.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
        }
    }
}

fn check_length(secret: &Secret<String>) -> Result<(), PasswordError> {
    if secret.expose().len() > MAX_SECRET_LEN {
        return Err(PasswordFault::TooLong.into());
    }
    Ok(())
}

enum Job {
    Hash {
        secret: Secret<String>,
        reply: oneshot::Sender<PasswordHash>,
    },
    Verify {
        line: String,
        secret: Secret<String>,
        hashes: Vec<PasswordHash>,
        reply: oneshot::Sender<Result<bool, PasswordError>>,
    },
}

#[derive(Debug, Default)]
struct Shared {
    limits: PoolLimits,
    queue: Mutex<Queue>,
    work: Condvar,
    counters: Counters,
}

#[derive(Default)]
struct Queue {
    settings: VecDeque<Job>,
    guesses: VecDeque<Job>,
    lines: HashMap<String, usize>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} + {})", self.settings.len(), self.guesses.len())
    }
}

#[derive(Debug, Default)]
struct Counters {
    areas: AtomicUsize,
    most_areas: AtomicUsize,
    done: AtomicUsize,
    refused: AtomicUsize,
}

impl Shared {
    fn push(&self, job: Job) -> Result<(), PasswordError> {
        let pushed = self.queue.lock().push(job, self.limits);
        match pushed {
            Ok(()) => {
                self.work.notify_one();
            }
            Err(_) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        pushed
    }

    fn work(&self) {
        let mut memory = Memory {
            counters: &self.counters,
            blocks: Vec::new(),
        };
        while let Some(job) = self.next_job(&mut memory) {
            let line = if let Job::Verify { line, .. } = &job {
                Some(line.clone())
            } else {
                None
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| run(job, &mut memory)));
            if outcome.is_err() {
                tracing::error!("A password check panicked; its caller was refused");
            }
            if let Some(line) = line {
                self.queue.lock().leave(&line);
            }
        }
    }

    fn next_job(&self, memory: &mut Memory<'_>) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            let closed = queue.closed;
            if let Some(job) = queue.settings.pop_front().or_else(|| queue.guesses.pop_front()) {
                return Some(job);
            }
            if closed {
                return None;
            }
            if self.work.wait_for(&mut queue, IDLE).timed_out() {
                memory.give_back();
            }
        }
    }
}

fn run(job: Job, memory: &mut Memory<'_>) {
    match job {
        Job::Hash { secret, reply } => {
            if !reply.is_closed() {
                let hash =
                    memory.lend(|blocks| phc::hash(secret.expose().as_bytes(), rand::random(), blocks));
                let _gone = reply.send(hash);
            }
        }
        Job::Verify {
            secret,
            hashes,
            reply,
            ..
        } => {
            if !reply.is_closed() {
                let _gone = reply.send(matches_any(&secret, &hashes, memory));
            }
        }
    }
}

fn matches_any(
    secret: &Secret<String>,
    hashes: &[PasswordHash],
    memory: &mut Memory<'_>,
) -> Result<bool, PasswordError> {
    let mut unusable = false;
    for stored in hashes {
        match memory.lend(|blocks| phc::verify(secret.expose().as_bytes(), stored, blocks)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(_) => unusable = true,
        }
    }
    if unusable {
        Err(PasswordFault::UnusableHash.into())
    } else {
        Ok(false)
    }
}

impl Queue {
    fn push(&mut self, job: Job, limits: PoolLimits) -> Result<(), PasswordError> {
        if self.closed {
            return Err(PasswordFault::Closed.into());
        }
        let queue = match &job {
            Job::Hash { .. } => &mut self.settings,
            Job::Verify { .. } => &mut self.guesses,
        };
        if queue.len() >= limits.queue {
            return Err(PasswordError::Busy);
        }
        if let Job::Verify { line, .. } = &job {
            let present = self.lines.entry(line.clone()).or_default();
            if *present >= limits.per_line {
                return Err(PasswordError::Busy);
            }
            *present += 1;
        }
        queue.push_back(job);
        Ok(())
    }

    fn leave(&mut self, line: &str) {
        if let Some(present) = self.lines.get_mut(line) {
            *present -= 1;
            if *present == 0 {
                self.lines.remove(line);
            }
        }
    }
}

/// One thread's memory area, allocated with the first job and kept while jobs keep coming.
struct Memory<'a> {
    counters: &'a Counters,
    blocks: Vec<Block>,
}

impl Memory<'_> {
    fn lend<T>(&mut self, compute: impl FnOnce(&mut Vec<Block>) -> T) -> T {
        if self.blocks.capacity() == 0 {
            let areas = self.counters.areas.fetch_add(1, Ordering::Relaxed) + 1;
            self.counters.most_areas.fetch_max(areas, Ordering::Relaxed);
            self.blocks.reserve_exact(1);
        }
        self.counters.done.fetch_add(1, Ordering::Relaxed);
        compute(&mut self.blocks)
    }

    fn give_back(&mut self) {
        if self.blocks.capacity() > 0 {
            self.counters.areas.fetch_sub(1, Ordering::Relaxed);
            self.blocks = Vec::new();
        }
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
