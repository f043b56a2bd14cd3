//! The way of access log lines to management: a bounded queue that requests never wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshgate_proto::AccessLog;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::ManagementClient;

/// Lines that wait for a sender; more are dropped and counted.
const QUEUE: usize = 4096;

/// Senders that share one connection. What they do not keep up with fills the queue.
const SENDERS: usize = 8;

/// Takes lines. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub(crate) struct AccessLogSink {
    queue: mpsc::Sender<AccessLog>,
    dropped: Arc<AtomicU64>,
}

/// The end of the queue from which lines are sent.
#[derive(Debug)]
pub(crate) struct Lines(mpsc::Receiver<AccessLog>);

#[cfg(test)]
impl Lines {
    /// The next line.
    pub(crate) async fn recv(&mut self) -> Option<AccessLog> {
        self.0.recv().await
    }
}

impl AccessLogSink {
    /// A sink, and the end from which senders take lines.
    pub(crate) fn new() -> (Self, Lines) {
        let (queue, lines) = mpsc::channel(QUEUE);
        (
            Self {
                queue,
                dropped: Arc::default(),
            },
            Lines(lines),
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

/// Sends lines until `stop` and what is queued then until the queue is empty or `hard_stop`.
///
/// A line that management does not take is dropped: sending it again would hold up the ones behind it.
pub(crate) fn send(
    lines: Lines,
    client: &ManagementClient,
    sink: &AccessLogSink,
    tasks: &TaskTracker,
    stops: &Stops,
) {
    let lines = Arc::new(Mutex::new(lines.0));
    for _ in 0..SENDERS {
        let sender = Sender {
            lines: Arc::clone(&lines),
            client: client.clone(),
            dropped: Arc::clone(&sink.dropped),
            stop: stops.soft.clone(),
        };
        let hard = stops.hard.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = sender.run() => {}
            }
        });
    }
}

/// When senders end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stops {
    /// Nothing new comes.
    pub(crate) soft: CancellationToken,
    /// Drop everything.
    pub(crate) hard: CancellationToken,
}

struct Sender {
    lines: Arc<Mutex<mpsc::Receiver<AccessLog>>>,
    client: ManagementClient,
    dropped: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Sender {
    async fn run(&self) {
        while let Some(line) = self.next().await {
            if let Err(error) = self.client.send_access_log(line).await {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(error = %error, "Access log line was not taken");
            }
        }
    }

    async fn next(&self) -> Option<AccessLog> {
        let mut lines = self.lines.lock().await;
        tokio::select! {
            biased;
            line = lines.recv() => line,
            () = self.stop.cancelled() => lines.try_recv().ok(),
        }
    }
}
