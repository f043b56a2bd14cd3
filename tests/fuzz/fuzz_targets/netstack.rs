//! Datagrams and inner packets into the core.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/netstack.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::run(data));
