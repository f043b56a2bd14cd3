//! The way of access log lines to management: a bounded queue that requests never wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use meshgate_proto::AccessLog;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::{AccessLogLine, ManagementClient};

/// Lines that wait for a sender; more are dropped and counted.
pub(crate) const QUEUE: usize = 8192;

/// Lines that are sent together.
const BATCH: usize = 256;

/// How long a line waits for others.
const WINDOW: Duration = Duration::from_millis(50);

/// How long after the end requests that were cut may tell of it.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Bytes of the lines in one message; management takes twice as many.
const MESSAGE: usize = 512 * 1024;

/// Calls at once when lines are sent one by one. What they do not keep up with fills the queue.
const AT_ONCE: usize = 8;

/// After this long, a management server that did not know how to take several lines is asked again.
const ASK_AGAIN: Duration = Duration::from_mins(10);

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
/// Lines are gathered for a moment and sent together. A management server that takes them only one by one gets them
/// so. A line that it does not take is dropped: sending it again would hold up the ones behind it.
pub(crate) fn send(
    lines: Lines,
    client: &ManagementClient,
    sink: &AccessLogSink,
    tasks: &TaskTracker,
    stops: &Stops,
) {
    let sender = Sender {
        lines: lines.0,
        client: client.clone(),
        dropped: Arc::clone(&sink.dropped),
        stop: stops.soft.clone(),
        way: Way::Unknown,
    };
    let hard = stops.hard.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = hard.cancelled() => {}
            () = sender.run() => {}
        }
    });
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
    lines: mpsc::Receiver<AccessLog>,
    client: ManagementClient,
    dropped: Arc<AtomicU64>,
    stop: CancellationToken,
    way: Way,
}

/// How management takes lines.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It was not asked yet.
    Unknown,
    /// Several in one message.
    Together,
    /// Each in a call of its own; it is asked again after a while.
    OneByOne { until: Instant },
}

impl Sender {
    async fn run(mut self) {
        let mut gathered = Vec::with_capacity(BATCH);
        while self.gather(&mut gathered).await {
            let mut lines: Vec<AccessLogLine> = gathered.drain(..).map(AccessLogLine::from).collect();
            while !lines.is_empty() {
                let behind = lines.split_off(fitting(&lines));
                self.send(std::mem::replace(&mut lines, behind)).await;
            }
        }
    }

    /// Waits for a line, lets others come, and takes them; false when none will come.
    ///
    /// Nobody is woken for the others: waking a task costs more than the rest of what is done for a line.
    async fn gather(&mut self, gathered: &mut Vec<AccessLog>) -> bool {
        if self.lines.is_empty() {
            tokio::select! {
                biased;
                line = self.lines.recv() => gathered.extend(line),
                () = self.stop.cancelled() => {
                    if let Ok(line) = timeout(LAST_WORDS, self.lines.recv()).await {
                        gathered.extend(line);
                    }
                }
            }
        }
        if self.lines.len() < BATCH && !self.lines.is_closed() {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(WINDOW) => {}
            }
        }
        while gathered.len() < BATCH
            && let Ok(line) = self.lines.try_recv()
        {
            gathered.push(line);
        }
        !gathered.is_empty()
    }

    async fn send(&mut self, lines: Vec<AccessLogLine>) {
        let kept = match self.way {
            Way::OneByOne { until } if Instant::now() < until => return self.send_one_by_one(lines).await,
            Way::OneByOne { .. } | Way::Unknown => lines.clone(),
            Way::Together => Vec::new(),
        };
        let count = lines.len();
        match self.client.send_access_logs(lines).await {
            Ok(refused) => {
                self.way = Way::Together;
                self.lose(refused);
            }
            Err(error) if error.is_unknown_call() => {
                self.way = Way::OneByOne {
                    until: Instant::now() + ASK_AGAIN,
                };
                self.lose((count - kept.len()) as u64);
                self.send_one_by_one(kept).await;
            }
            Err(error) => {
                self.lose(count as u64);
                tracing::debug!(error = %error, "Access log lines were not taken");
            }
        }
    }

    async fn send_one_by_one(&self, lines: Vec<AccessLogLine>) {
        let each = stream::iter(lines).for_each_concurrent(AT_ONCE, async |line| {
            if let Err(error) = self.client.send_access_log(line).await {
                self.lose(1);
                tracing::debug!(error = %error, "Access log line was not taken");
            }
        });
        each.await;
    }

    fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

/// How many of the lines one message holds; at least one.
fn fitting(lines: &[AccessLogLine]) -> usize {
    let mut bytes = 0;
    let fitting = lines.iter().take_while(|line| {
        bytes += line.encoded_len();
        bytes <= MESSAGE
    });
    fitting.count().max(1)
}
