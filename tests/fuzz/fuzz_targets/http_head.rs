//! HTTP/1 requests before the engine sees them.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/http_head.rs"]
mod body;
#[path = "../../../proxy/src/edge/chunks.rs"]
mod chunks;
#[path = "../../../proxy/src/edge/guard.rs"]
mod guard;
#[path = "../../../proxy/src/edge/head.rs"]
mod head;

/// What the sources above take from the rest of the proxy.
mod handler {
    pub(crate) const MAX_HEAD: usize = 64 * 1024;
}

fuzz_target!(|data: &[u8]| body::run(data));
