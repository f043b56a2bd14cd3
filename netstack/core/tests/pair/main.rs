//! Two nodes in virtual time, joined by a network that loses, delays, doubles and reorders.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod faults;
mod hostile;
mod streams;
mod world;
