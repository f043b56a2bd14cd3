//! Every REST route and every gRPC method, with what nobody, a stranger and the owner get from it.

mod peers;
mod proxies;
mod rest;

/// A well-formed id of nothing.
const NO_ID: &str = "d0000000000000000000";
