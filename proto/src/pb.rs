//! Generated messages and services. They stay inside `convert`, the gRPC servers and the gRPC clients.
#![allow(
    missing_docs,
    unreachable_pub,
    unnameable_types,
    unused_qualifications,
    elided_lifetimes_in_paths,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::str_to_string,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]

/// Package `management`: peers and proxies.
pub mod management {
    tonic::include_proto!("management");
}

/// Package `signalexchange`: peer to peer messages.
pub mod signalexchange {
    tonic::include_proto!("signalexchange");
}
