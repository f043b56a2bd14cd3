//! Mesh control client: login, sync, signal and relay; drives the netstack's peers and paths.
//!
//! [`Mesh::start`] spawns one supervised client of a mesh. It joins through the management server, keeps
//! four connections alive (management, sync, signal, relay), each on its own, and turns what they say into
//! peers, paths and firewall rules of a userspace WireGuard node. [`Mesh::connect`] and [`Mesh::listen`]
//! are what applications use.

mod board;
mod candidate;
mod channel;
mod config;
#[cfg(test)]
mod corpus;
mod direct;
mod directory;
mod early;
mod engine;
mod guard;
mod key_file;
mod management;
mod management_url;
mod mesh;
mod network_map;
mod peer;
mod probe;
mod ready;
mod relay;
mod signal;
mod status;
mod sync;
mod system_meta;
mod trust;

pub use config::{MeshConfig, StartError};
pub use key_file::load_or_create_key;
pub use management_url::{InvalidManagementUrl, ManagementUrl};
pub use mesh::Mesh;
pub use meshgate_netstack::{
    Carried, ConnectError, Failure, Inbound, Incoming, ListenSpec, PortFilter, PresharedKey, TcpListener,
    TcpStream, copy_both, copy_either,
};
pub use meshgate_proto::network_map::MetaFlags;
pub use ready::NotReady;
pub use status::{Hop, LinkState, LinkStatus, MeshInfo, MeshStatus, PeerPath, PeerSummary, PermanentFailure};
