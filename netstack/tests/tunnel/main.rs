//! Two netstacks on real sockets and through an in-memory relay.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod direct;
mod relayed;
mod support;
