//! What the processes hold: descriptors, threads, memory, tasks.

use std::fs;

use serde::Serialize;

use crate::deployment::Part;
use crate::process::Process;

/// What one process holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Vitals {
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Threads.
    pub(super) threads: u64,
    /// Resident memory in KiB.
    pub(super) memory_kib: u64,
    /// Tasks; zero where nobody asked, and where the process did not tell.
    pub(super) tasks: u64,
}

impl Vitals {
    /// Reads what the system tells; all zero when the process is gone.
    pub(super) fn read(pid: u32) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        Self {
            descriptors: descriptors as u64,
            threads: field("Threads:"),
            memory_kib: field("VmRSS:"),
            tasks: 0,
        }
    }

    /// Reads them, and asks the process for what only it knows.
    pub(super) async fn ask(process: &Process) -> Self {
        Self {
            tasks: process.tasks().await.unwrap_or(0),
            ..Self::read(process.pid())
        }
    }

    /// The larger of each.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            memory_kib: self.memory_kib.max(other.memory_kib),
            tasks: self.tasks.max(other.tasks),
        }
    }
}

/// What the process of a part held at the begin and at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Held {
    /// Name of the part.
    pub(super) part: String,
    /// Under load before the first fault, the highest of some moments.
    pub(super) base: Vitals,
    /// Under load before any of the faults, the highest of all moments.
    pub(super) highest: Vitals,
    /// Under load at the end.
    pub(super) end: Vitals,
}

impl Held {
    /// Begins with what a part holds now.
    pub(super) fn new(part: Part, base: Vitals) -> Self {
        Self {
            part: part.to_string(),
            base,
            highest: base,
            end: base,
        }
    }
}
