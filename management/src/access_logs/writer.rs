//! Writes what proxies report, in batches.
//!
//! A report goes into a bounded queue and is answered at once. One task writes the queue to the database: one
//! transaction per 500 entries or 250 ms, whichever comes first. When the queue is full the newcomer is
//! dropped and counted; neither the proxy nor the API ever waits for a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::access_logs::AccessLogRow;
use crate::store::{Store, StoreError};

/// Entries that may wait; with texts at their longest about 60 MiB, usually 8.
pub const QUEUE: usize = 16_384;
const BATCH: usize = 500;
const WINDOW: Duration = Duration::from_millis(250);

/// Makes the two ends of the queue.
pub fn access_log_queue(capacity: usize) -> (AccessLogSink, AccessLogWriter) {
    let (sender, receiver) = mpsc::channel(capacity);
    let counters = Arc::new(Counters::default());
    let sink = AccessLogSink {
        sender,
        counters: Arc::clone(&counters),
    };
    (sink, AccessLogWriter { receiver, counters })
}

/// What became of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLogStats {
    /// Taken into the queue.
    pub accepted: u64,
    /// Found the queue full.
    pub dropped: u64,
    /// Written.
    pub written: u64,
    /// Lost with a failed transaction.
    pub failed: u64,
    /// Transactions.
    pub transactions: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    dropped: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
    transactions: AtomicU64,
}

/// Where entries are put.
#[derive(Clone, Debug)]
pub struct AccessLogSink {
    sender: mpsc::Sender<AccessLogRow>,
    counters: Arc<Counters>,
}

impl AccessLogSink {
    /// Queues an entry, or drops and counts it.
    pub fn push(&self, entry: AccessLogRow) {
        let counter = match self.sender.try_send(entry) {
            Ok(()) => &self.counters.accepted,
            Err(_) => &self.counters.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of the entries so far.
    pub fn stats(&self) -> AccessLogStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AccessLogStats {
            accepted: load(&self.counters.accepted),
            dropped: load(&self.counters.dropped),
            written: load(&self.counters.written),
            failed: load(&self.counters.failed),
            transactions: load(&self.counters.transactions),
        }
    }
}

/// Writes the queue to the database.
#[derive(Debug)]
pub struct AccessLogWriter {
    receiver: mpsc::Receiver<AccessLogRow>,
    counters: Arc<Counters>,
}

impl AccessLogWriter {
    /// Writes until `shutdown`, then writes what is queued and returns.
    pub async fn run(mut self, store: Store, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut told = 0;
        loop {
            tokio::select! {
                () = self.fill(&mut batch) => {}
                () = shutdown.cancelled() => self.receiver.close(),
            }
            // After closing, what is left comes without waiting.
            if self.receiver.is_closed() && batch.len() < BATCH {
                let room = BATCH - batch.len();
                self.receiver.recv_many(&mut batch, room).await;
            }
            if batch.is_empty() {
                return;
            }
            self.write(&store, &batch).await;
            batch.clear();
            told = self.tell_dropped(told);
        }
    }

    /// Waits for an entry and gathers more until the batch or the window is full. Loses nothing when dropped.
    async fn fill(&mut self, batch: &mut Vec<AccessLogRow>) {
        if batch.is_empty() && self.receiver.recv_many(batch, BATCH).await == 0 {
            return;
        }
        let deadline = Instant::now() + WINDOW;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(deadline, self.receiver.recv_many(batch, room)).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn write(&self, store: &Store, batch: &[AccessLogRow]) {
        let entries = batch.len() as u64;
        self.counters.transactions.fetch_add(1, Ordering::Relaxed);
        match insert(store, batch).await {
            Ok(()) => {
                self.counters.written.fetch_add(entries, Ordering::Relaxed);
            }
            Err(error) => {
                self.counters.failed.fetch_add(entries, Ordering::Relaxed);
                tracing::error!(
                    entries,
                    error = &error as &dyn std::error::Error,
                    "Access log entries were lost"
                );
            }
        }
    }

    fn tell_dropped(&self, told: u64) -> u64 {
        let dropped = self.counters.dropped.load(Ordering::Relaxed);
        if dropped > told {
            tracing::warn!(
                entries = dropped - told,
                "Access log queue was full; entries were dropped"
            );
        }
        dropped
    }
}

async fn insert(store: &Store, batch: &[AccessLogRow]) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    tx.insert_access_logs_anywhere(batch).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests;
