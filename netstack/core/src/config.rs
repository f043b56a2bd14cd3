//! Settings of a node.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Cidr, PresharedKey, PrivateKey, PublicKey};

/// Largest inner packet by default; fits every path the mesh uses.
pub const DEFAULT_MTU: u16 = 1280;

/// What a node is made of.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Our static key.
    pub private_key: PrivateKey,
    /// Our overlay addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Largest inner packet; 576 to 1500, for IPv6 at least 1280.
    pub mtu: u16,
    /// Buffers of each connection.
    pub buffers: Buffers,
    /// What to do with flows that others start.
    pub inbound: Inbound,
    /// What to do with the streams of a peer that fell silent.
    pub silence: Silence,
}

/// Largest size of a connection's buffers in bytes. They begin smaller and grow with what the path carries, and become
/// resident only as far as they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// Receive buffer, and so the largest window.
    pub receive: usize,
    /// Transmit buffer.
    pub transmit: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            // More than a gigabit in a second at a round trip of 20 ms.
            receive: 4 << 20,
            transmit: 4 << 20,
        }
    }
}

/// Policy for flows that others start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inbound {
    /// Nothing comes in, whatever the rules say.
    #[default]
    DenyAll,
    /// The firewall rules decide.
    Firewall,
}

/// Policy for the streams of a peer that fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Silence {
    /// Waiting dials and open streams fail at once.
    #[default]
    FailStreams,
    /// Only waiting dials fail; streams live on until TCP gives up.
    Report,
}

/// One WireGuard peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Its static key.
    pub public_key: PublicKey,
    /// A symmetric key shared with it.
    pub preshared_key: Option<PresharedKey>,
    /// Inner addresses that belong to it: routes to it, and the only sources accepted from it.
    pub allowed_ips: Vec<Cidr>,
    /// Sends an empty packet after this much silence of our own.
    pub keepalive: Option<Duration>,
}
