//! WebSocket as the relay reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/relay_websocket.rs"]
mod body;
#[path = "../../../management/src/relay/websocket.rs"]
mod websocket;

fuzz_target!(|data: &[u8]| body::run(data));
