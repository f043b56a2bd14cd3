//! End-to-end tests: the real binary on loopback, seen from outside.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and print what was measured"
)]

mod access_log;
mod architecture;
mod bad_input;
mod browser;
mod demo;
mod doors;
mod drill;
mod fuzz_targets;
mod login;
mod malformed;
mod outage;
mod proxy_protocol;
mod scale;
mod start_up;
mod three_processes;
mod transfer;
mod without_management;
