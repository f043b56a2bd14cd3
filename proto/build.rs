//! Compiles the protocol files with a compiler written in Rust, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "proto/management.proto",
        "proto/proxy_service.proto",
        "proto/signalexchange.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".signalexchange.EncryptedMessage.body")
        .bytes(".management.EncryptedMessage.body")
        .compile_fds(descriptors)?;
    Ok(())
}
