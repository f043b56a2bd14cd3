//! The first message of a TLS connection.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/client_hello.rs"]
mod body;
#[path = "../../../proxy/src/edge/client_hello.rs"]
mod client_hello;

fuzz_target!(|data: &[u8]| body::run(data));
