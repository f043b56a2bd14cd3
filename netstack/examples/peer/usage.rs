//! CPU time of processes, from /proc.

use std::fs;
use std::time::Duration;

/// Ticks a second of the times in /proc; fixed in the kernel's interface.
const TICKS: u64 = 100;

/// User and system time of a process since its start; zero if it cannot be told.
pub(crate) fn cpu(pid: u32) -> Duration {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and parentheses; fields are counted from behind it (proc(5)).
        let (_, fields) = stat.rsplit_once(") ")?;
        let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
        Some(field(14)? + field(15)?)
    };
    Duration::from_millis(ticks().unwrap_or(0) * 1000 / TICKS)
}
