//! gRPC: translation between the wire and the use-cases.

pub(crate) mod finish;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod management_service;
pub mod proxy_auth;
pub mod proxy_service;
pub mod signal_exchange;
pub mod status;
#[cfg(test)]
pub(crate) mod test_peer;
