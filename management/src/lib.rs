//! Control plane: store, REST, gRPC for proxies and peers, signal and relay.
//!
//! [`app`] wires everything and runs it on one port; [`admin`] holds what the command line does on a data
//! directory, with or without a running server. Use-cases know neither HTTP nor gRPC; [`rest`] and `grpc`
//! translate. What changes is committed first and then told through [`changes`] to the reconcilers.

pub mod access_logs;
pub mod accounts;
pub mod actor;
pub mod admin;
pub mod app;
pub mod authn;
pub mod authz;
pub mod changes;
pub mod clusters;
pub mod config;
pub mod data;
pub mod error;
pub mod groups;
pub mod grpc;
pub(crate) mod lenient;
pub mod network_map;
pub mod one_time_tokens;
pub mod password;
pub mod peers;
pub mod reconcile;
pub mod relay;
pub mod rest;
pub mod secrets;
pub mod server;
pub mod services;
pub mod session;
pub mod setup_keys;
pub mod state;
pub mod store;
#[cfg(test)]
pub(crate) mod test_support;
pub(crate) mod throttle;
pub mod tokens;
