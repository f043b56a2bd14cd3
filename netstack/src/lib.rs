//! Async shell of the netstack: one UDP socket, a driver task, stream and listener handles.

mod config;
mod listener;
mod netstack;
mod relay;
mod stream;

pub use config::Config;
pub use listener::{Incoming, ListenSpec, PortFilter, TcpListener};
pub use meshgate_netstack_core::{
    Buffers, Cidr, ConnectError, DEFAULT_MTU, Event, Failure, FirewallRule, Inbound, InvalidCidr, InvalidKey,
    PathKind, PeerConfig, PeerStats, Ports, PresharedKey, PrivateKey, Protocol, PublicKey, Silence, Stats,
    Verdict,
};
pub use netstack::{Datagram, Netstack};
pub use relay::{Path, RelaySink, RelayTransport};
pub use stream::TcpStream;
