//! The clock that boringtun reads, moved by hand.
//!
//! The core takes the time as an argument, but the WireGuard implementation behind it asks the system for the
//! protocol's own timers: the renewal of keys after 120 s, their end after 180 s, the repeated handshakes, the cookies
//! and the count of the rate limiter. This module stands in front of the C library's `clock_gettime` in this test
//! binary, so that those timers run in the world's time too. It is per thread, and touches only the two clocks that
//! boringtun reads; tests that never set it see the real ones.

use std::cell::Cell;
use std::ffi::{c_int, c_long};
use std::time::Duration;

/// What both clocks say when a world begins.
const EPOCH: Duration = Duration::from_hours(500_000);

thread_local! {
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
    static SLOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Sets the clocks of this thread to a world's beginning.
pub(crate) fn start() {
    NOW.set(Some(EPOCH));
    SLOW.set(Duration::ZERO);
}

/// Moves the clocks to so long after the world's beginning.
pub(crate) fn advance(elapsed: Duration) {
    NOW.set(NOW.get().max(Some(EPOCH + elapsed)));
}

/// Sets the clock on the wall back, as an operator may; the one that counts the time since boot goes on.
pub(crate) fn set_back(by: Duration) {
    SLOW.set(SLOW.get() + by);
}

/// Every look takes a moment, so that no two are equal: WireGuard tells handshakes apart by it.
fn look() -> Option<Duration> {
    let now = NOW.try_with(Cell::get).ok()??;
    NOW.set(Some(now + Duration::from_nanos(1)));
    Some(now)
}

/// The C library's function of this name, as every caller in this binary finds it.
#[expect(
    unsafe_code,
    reason = "the symbol and the pointer are the C library's interface"
)]
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let moved = match clock {
        libc::CLOCK_BOOTTIME => look(),
        libc::CLOCK_REALTIME => look().map(|now| now.saturating_sub(SLOW.get())),
        _ => None,
    };
    match moved {
        Some(now) if !time.is_null() => {
            let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or(libc::time_t::MAX);
            // SAFETY: the caller's contract is that the pointer is valid for writing one timespec.
            unsafe {
                (*time).tv_sec = seconds;
                (*time).tv_nsec = c_long::from(now.subsec_nanos().cast_signed());
            }
            0
        }
        // SAFETY: the arguments are passed on as they came.
        _ => unsafe { c_int::try_from(libc::syscall(libc::SYS_clock_gettime, clock, time)).unwrap_or(-1) },
    }
}
