//! Paths of requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/request_path.rs"]
mod body;
#[path = "../../../proxy/src/handler/path.rs"]
mod path;

fuzz_target!(|data: &[u8]| body::run(data));
