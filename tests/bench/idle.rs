//! What waits: connections of the tunnel and WebSockets that say nothing, and a peer that is not there.
//!
//! Memory is what a process grew by, shared out over what was opened. Throughput with and without idle
//! connections is measured in turns, with two pairs of nodes of which one holds them.

mod client;
mod node;
mod restart;
mod tunnel;
mod websockets;

use std::time::Duration;

use crate::report::{Bar, Report};
use crate::usage::Usage;

/// Time in which a program gives back what it keeps for a moment only.
const SETTLE: Duration = Duration::from_secs(3);
/// Time over which idle programs are watched.
const WATCH: Duration = Duration::from_secs(4);

/// Measures all of it.
pub(crate) async fn run() -> anyhow::Result<Report> {
    let mut report = Report::new("idle");
    tunnel::measure(&mut report).await?;
    websockets::measure(&mut report).await?;
    restart::measure(&mut report).await?;
    Ok(report)
}

/// What programs use after they had time to settle.
async fn settled(pids: &[u32]) -> Vec<Usage> {
    tokio::time::sleep(SETTLE).await;
    pids.iter().map(|pid| Usage::of(*pid)).collect()
}

/// CPU time of one core that programs take while nothing happens, in percent.
async fn idle_cpu(pids: &[u32]) -> Vec<f64> {
    let before: Vec<Usage> = pids.iter().map(|pid| Usage::of(*pid)).collect();
    tokio::time::sleep(WATCH).await;
    let used = pids
        .iter()
        .zip(before)
        .map(|(pid, before)| Usage::of(*pid).cpu_since(before));
    used.map(|seconds| seconds / WATCH.as_secs_f64() * 100.0)
        .collect()
}

/// Growth of a program for each of `count` things, in KiB.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn kib_each(before: Usage, after: Usage, count: usize) -> f64 {
    (after.rss as f64 - before.rss as f64) / 1024.0 / count as f64
}
