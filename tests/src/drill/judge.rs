//! The rules.

use std::time::{Duration, Instant};

use super::fault::{Fault, Losses};
use super::ledger::{Kind, Window, millis};
use super::scene::{PARTS, Scene};
use super::vitals::{Held, Vitals};
use super::{INTERVAL, Rules, name};
use crate::deployment::Paths;

/// Longest wait for descriptors to be given back: idle connections to targets are kept for a minute.
const GIVEN_BACK: Duration = Duration::from_secs(90);

/// Descriptors that the end may have beyond the base: those of requests under way at that moment.
const DESCRIPTORS_UNDER_WAY: u64 = 4;

/// Threads beyond the base: those for blocking work come and go.
const THREADS_BETWEEN: u64 = 8;

/// Tasks beyond the base: those of requests under way at that moment.
const TASKS_UNDER_WAY: u64 = 16;

/// Memory beyond the base in KiB. Stalled clients fill the windows of their connections (36 clients, up to half a
/// MiB each in proxy and agent), and the allocator keeps what it once had; what a leak takes grows with every
/// round instead.
const MEMORY_KEPT_KIB: u64 = 24 * 1024;

/// The rules of a window that do not hold.
pub(super) fn judge(
    fault: Fault,
    paths: Paths,
    rules: Rules,
    window: &Window,
    service_ms: Option<u64>,
) -> Vec<String> {
    let bounds = fault.bounds(paths);
    let mut broken = Vec::new();
    for (kind, tally) in Kind::ALL.into_iter().zip(&window.tallies) {
        if bounds.losses == Losses::Forbidden && tally.lost > 0 {
            broken.push(format!("{} {kind:?} lost where none may be", tally.lost));
        }
        if tally.relapsed > 0 {
            broken.push(format!("{} {kind:?} lost after recovery", tally.relapsed));
        }
        // What is long in itself takes long to fail as well.
        if rules == Rules::All && kind != Kind::Stream && tally.told_ms > millis(bounds.told) {
            broken.push(format!("{kind:?} failed only after {} ms", tally.told_ms));
        }
    }
    if rules == Rules::All && service_ms.is_some_and(|took| took > millis(bounds.service)) {
        broken.push(format!(
            "service took {} ms, not {:?}",
            service_ms.unwrap_or_default(),
            bounds.service
        ));
    }
    broken
}

/// Compares what the processes hold with the begin, under the same load.
pub(super) async fn leaks(scene: &Scene, held: &mut [Held], rules: Rules, broken: &mut Vec<String>) {
    let begun = Instant::now();
    let patience = match rules {
        Rules::All => GIVEN_BACK,
        Rules::Outcomes => Duration::ZERO,
    };
    for (held, part) in held.iter_mut().zip(PARTS) {
        held.end = Vitals::ask(scene.deployment.process(part)).await;
        while holds_more(held) && begun.elapsed() < patience {
            tokio::time::sleep(INTERVAL).await;
            held.end = Vitals::ask(scene.deployment.process(part)).await;
        }
        held.highest = held.highest.max(held.end);
        if rules == Rules::All && holds_more(held) {
            broken.push(format!(
                "{} {part} holds more than at the begin: {:?}, then {:?}",
                name(scene.paths),
                held.base,
                held.end
            ));
        }
    }
}

fn holds_more(held: &Held) -> bool {
    // One task is there at least, the one that tells: zero is a process that did not, and may hold anything.
    held.end.tasks == 0
        || held.end.descriptors > held.base.descriptors + DESCRIPTORS_UNDER_WAY
        || held.end.threads > held.base.threads + THREADS_BETWEEN
        || held.end.tasks > held.base.tasks + TASKS_UNDER_WAY
        || held.end.memory_kib > held.base.memory_kib + MEMORY_KEPT_KIB
}
