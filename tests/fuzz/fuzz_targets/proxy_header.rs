//! PROXY headers of load balancers.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/proxy_header.rs"]
mod body;
#[path = "../../../proxy/src/edge/proxy_header.rs"]
mod proxy_header;

fuzz_target!(|data: &[u8]| body::run(data));
