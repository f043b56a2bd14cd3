//! Two nodes in virtual time, joined by a network that loses, delays, doubles and reorders.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod clock;
mod evil;
mod faults;
mod first_contact;
mod hostile;
mod random;
mod segments;
mod sessions;
mod streams;
mod world;
