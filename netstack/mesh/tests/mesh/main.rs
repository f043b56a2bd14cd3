//! Mesh clients against small servers that speak the real protocol over real sockets.

#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

mod direct;
mod failures;
mod joining;
mod management;
mod offers;
mod relay;
mod signal;
mod world;
