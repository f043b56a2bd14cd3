//! The way of access log lines to management: a bounded queue that requests never wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshgate_proto::AccessLog;
use tokio::sync::mpsc;

/// Lines that wait for a sender; more are dropped and counted.
const QUEUE: usize = 4096;

/// Takes lines. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub(crate) struct AccessLogSink {
    queue: mpsc::Sender<AccessLog>,
    dropped: Arc<AtomicU64>,
}

impl AccessLogSink {
    /// A sink, and the end from which senders take lines.
    pub(crate) fn new() -> (Self, mpsc::Receiver<AccessLog>) {
        let (queue, lines) = mpsc::channel(QUEUE);
        (
            Self {
                queue,
                dropped: Arc::default(),
            },
            lines,
        )
    }

    /// Hands over a line; a line too many is dropped.
    pub(crate) fn push(&self, line: AccessLog) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
