//! Sealed messages and probes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/sealed.rs"]
mod body;
#[path = "../../../netstack/mesh/src/probe.rs"]
mod probe;

fuzz_target!(|data: &[u8]| body::run(data));
