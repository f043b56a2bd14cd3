//! The client: keeps a load up for a while and tells what happened in the middle of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::counter::Counter;
use crate::link::{Link, LinkArguments};
use crate::load::{Load, Progress};
use crate::usage::cpu;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    link: LinkArguments,
    /// The server, seen through the tunnel.
    #[arg(long)]
    to: SocketAddr,
    /// The server's counter of uploaded bytes.
    #[arg(long)]
    counter: SocketAddr,
    /// What to do.
    #[arg(long)]
    load: Load,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Length of the measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Time before the measurement.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Milliseconds between two requests of a connection.
    #[arg(long, default_value_t = 0)]
    pace: u64,
    /// Processes whose CPU time belongs to our side as well.
    #[arg(long)]
    beside: Vec<u32>,
}

/// What happened during the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    seconds: f64,
    bytes: u64,
    requests: u64,
    errors: u64,
    /// Of this process.
    cpu_seconds: f64,
    /// Of the processes beside it.
    beside_cpu_seconds: f64,
    p50_us: u32,
    p99_us: u32,
    longest_us: u32,
}

/// Counters at one moment.
#[derive(Debug)]
struct Mark {
    at: Instant,
    bytes: u64,
    requests: u64,
    own: Duration,
    beside: Duration,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let link = Link::new(arguments.link)?;
    let mut counter = Counter::open(arguments.counter).await?;
    let progress = Arc::new(Progress::default());
    let mut tasks = JoinSet::new();
    for _ in 0..arguments.connections {
        let connection = link.connect(arguments.to).await?;
        let pace = Duration::from_millis(arguments.pace);
        tasks.spawn(arguments.load.drive(connection, Arc::clone(&progress), pace));
    }

    tokio::time::sleep(Duration::from_secs_f64(arguments.warm_up)).await;
    progress.latencies.lock().clear();
    let before = mark(&progress, &mut counter, arguments.load, &arguments.beside).await?;
    tokio::time::sleep(Duration::from_secs_f64(arguments.seconds)).await;
    let after = mark(&progress, &mut counter, arguments.load, &arguments.beside).await?;

    let mut latencies = std::mem::take(&mut *progress.latencies.lock());
    progress.stop.store(true, Ordering::Relaxed);
    tasks.shutdown().await;
    link.close().await;
    latencies.sort_unstable();
    Ok(Outcome {
        seconds: after.at.duration_since(before.at).as_secs_f64(),
        bytes: after.bytes - before.bytes,
        requests: after.requests - before.requests,
        errors: progress.errors.load(Ordering::Relaxed),
        cpu_seconds: after.own.saturating_sub(before.own).as_secs_f64(),
        beside_cpu_seconds: after.beside.saturating_sub(before.beside).as_secs_f64(),
        p50_us: part(&latencies, 50),
        p99_us: part(&latencies, 99),
        longest_us: part(&latencies, 100),
    })
}

async fn mark(
    progress: &Progress,
    counter: &mut Counter,
    load: Load,
    beside: &[u32],
) -> std::io::Result<Mark> {
    let bytes = match load {
        Load::Up => counter.read().await?,
        Load::Down | Load::Requests => progress.bytes.load(Ordering::Relaxed),
    };
    Ok(Mark {
        at: Instant::now(),
        bytes,
        requests: progress.requests.load(Ordering::Relaxed),
        own: cpu(std::process::id()),
        beside: beside.iter().copied().map(cpu).sum(),
    })
}

/// The figure that so many percent do not exceed.
fn part(sorted: &[u32], percent: usize) -> u32 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0)
}
