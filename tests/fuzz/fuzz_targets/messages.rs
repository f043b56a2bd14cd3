//! Messages of management and signal on their way into domain types.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/messages.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::run(data));
