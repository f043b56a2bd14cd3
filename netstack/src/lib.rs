//! Async shell of the netstack: one UDP socket, a driver task, stream and listener handles.

mod config;
mod copy;
mod driver;
mod listener;
mod netstack;
mod relay;
mod shared;
mod stream;
mod udp;

pub use config::Config;
pub use copy::{Carried, copy_both, copy_either};
pub use listener::{Incoming, ListenSpec, TcpListener};
pub use meshgate_netstack_core::{
    Buffers, Cidr, ConnectError, DEFAULT_MTU, Event, Failure, FirewallRule, Inbound, InvalidCidr, InvalidKey,
    PathKind, PeerConfig, PeerStats, PortFilter, Ports, PresharedKey, PrivateKey, Protocol, PublicKey,
    Silence, Stats, Verdict,
};
pub use netstack::{Datagram, Netstack};
pub use relay::{Path, RelaySink, RelayTransport};
pub use stream::TcpStream;
