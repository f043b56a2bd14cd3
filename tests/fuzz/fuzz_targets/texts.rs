//! Names, keys, tokens and ranges.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/texts.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::run(data));
