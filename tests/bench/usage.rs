//! What processes use, from /proc.

use std::fs;
use std::time::Duration;

/// Ticks a second of the times in /proc; fixed in the kernel's interface on all machines that Linux runs on.
const TICKS: u64 = 100;

/// CPU time and memory of a process and its children at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time since the start.
    pub(crate) cpu: Duration,
    /// Resident bytes.
    pub(crate) rss: u64,
}

impl Usage {
    /// Usage of a process with all its descendants that run now.
    pub(crate) fn of(pid: u32) -> Self {
        let mut usage = Self::default();
        for pid in with_descendants(pid) {
            if let Some(one) = read(pid) {
                usage.cpu += one.cpu;
                usage.rss += one.rss;
            }
        }
        usage
    }

    /// CPU seconds since an earlier look.
    pub(crate) fn cpu_since(self, earlier: Self) -> f64 {
        self.cpu.saturating_sub(earlier.cpu).as_secs_f64()
    }

    /// Resident memory in MB (10^6 bytes).
    pub(crate) fn rss_mb(self) -> f64 {
        megabytes(self.rss)
    }
}

/// Bytes in units of 10^6.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn with_descendants(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(parent) = pids.get(next) {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        pids.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
        next += 1;
    }
    pids
}

fn read(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; fields are counted from behind it (proc(5)).
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rss.split_whitespace().next()?.parse().ok()?;
    Some(Usage {
        cpu: Duration::from_millis(ticks * 1000 / TICKS),
        rss: kib * 1024,
    })
}
