//! Network maps on their way into force.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/network_map.rs"]
mod body;
#[path = "../../../netstack/mesh/src/network_map.rs"]
mod network_map;

fuzz_target!(|data: &[u8]| body::run(data));
