//! What one peer may see and reach, computed from the account.
//!
//! Pure: [`AccountModel`] in, [`meshgate_proto::network_map::NetworkMap`] out. The model is kept by
//! `reconcile::network_maps`, which changes it step by step and asks for the maps of the peers concerned.

mod access;
mod compute;
mod dns;
mod model;
mod ports;
mod rules;
#[cfg(test)]
mod tests;

pub use access::{AccessIndex, PeerTarget, PrivateAccess, ServiceAccess, Touched};
pub use compute::{forwarder_port, network_map, peer_config, removed_map};
pub use model::{AccountModel, MapSettings, Network, PeerModel, Policy, PolicyRule, Side};
pub use ports::{RuleTraffic, TrafficText};
