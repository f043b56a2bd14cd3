//! Settings of a netstack.

use std::net::{IpAddr, SocketAddr};

use meshgate_netstack_core::{Buffers, DEFAULT_MTU, Inbound, NodeConfig, PrivateKey, Silence};

/// What a netstack is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our static key.
    pub private_key: PrivateKey,
    /// Our overlay addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Largest inner packet.
    pub mtu: u16,
    /// Where the UDP socket binds; `None` for a node that uses the relay alone.
    pub udp_bind: Option<SocketAddr>,
    /// Buffers of each connection.
    pub buffers: Buffers,
    /// What to do with flows that others start.
    pub inbound: Inbound,
    /// What to do with the streams of a peer that fell silent.
    pub silence: Silence,
}

impl Config {
    /// Defaults: MTU 1280, no UDP socket, the core's buffers, nothing comes in, a silent peer's streams fail.
    pub fn new(private_key: PrivateKey, addresses: Vec<IpAddr>) -> Self {
        Self {
            private_key,
            addresses,
            mtu: DEFAULT_MTU,
            udp_bind: None,
            buffers: Buffers::default(),
            inbound: Inbound::default(),
            silence: Silence::default(),
        }
    }

    pub(crate) fn into_node(self) -> NodeConfig {
        NodeConfig {
            private_key: self.private_key,
            addresses: self.addresses,
            mtu: self.mtu,
            buffers: self.buffers,
            inbound: self.inbound,
            silence: self.silence,
        }
    }
}
