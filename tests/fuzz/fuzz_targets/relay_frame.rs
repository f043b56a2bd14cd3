//! Frames of the relay.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/relay_frame.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::run(data));
