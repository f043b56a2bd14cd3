//! Pure WireGuard device and TCP/IP stack: bytes and time in, bytes and events out.

mod cidr;
mod config;
mod error;
mod event;
mod firewall;
mod key;
mod path;
mod stats;

pub use cidr::{Cidr, InvalidCidr};
pub use config::{Buffers, DEFAULT_MTU, Inbound, NodeConfig, PeerConfig, Silence};
pub use error::{ConnectError, Failure};
pub use event::Event;
pub use firewall::{Firewall, FirewallRule, Flow, Ports, Protocol, Verdict};
pub use key::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
pub use path::{PathKind, Source};
pub use stats::{PeerStats, Stats};
