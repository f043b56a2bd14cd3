//! What a mesh client shows of itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use meshgate_proto::WgPublicKey;

/// Everything about the client's connections at one moment.
#[derive(Debug, Clone, Default)]
pub struct MeshStatus {
    /// Login at the management server.
    pub management: LinkStatus,
    /// The stream of network maps.
    pub sync: LinkStatus,
    /// The stream of signal messages.
    pub signal: LinkStatus,
    /// The relay.
    pub relay: LinkStatus,
    /// What the mesh gave us; `None` before the login.
    pub info: Option<MeshInfo>,
    /// Serial number of the map in force.
    pub map_serial: Option<u64>,
    /// Parts of the map in force that could not be used, for people.
    pub map_problems: Vec<String>,
    /// Set once when the client has given up.
    pub permanent: Option<PermanentFailure>,
}

impl MeshStatus {
    /// True when a map is in force and both signal and relay are up.
    pub fn is_ready(&self) -> bool {
        self.info.is_some()
            && self.map_serial.is_some()
            && self.signal.is_up()
            && self.relay.is_up()
            && self.permanent.is_none()
    }

    /// The connection with that name.
    pub fn link(&self, hop: Hop) -> &LinkStatus {
        match hop {
            Hop::Management => &self.management,
            Hop::Sync => &self.sync,
            Hop::Signal => &self.signal,
            Hop::Relay => &self.relay,
        }
    }

    pub(crate) fn link_mut(&mut self, hop: Hop) -> &mut LinkStatus {
        match hop {
            Hop::Management => &mut self.management,
            Hop::Sync => &mut self.sync,
            Hop::Signal => &mut self.signal,
            Hop::Relay => &mut self.relay,
        }
    }
}

/// Names one of the four connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// Login at the management server.
    Management,
    /// The stream of network maps.
    Sync,
    /// The stream of signal messages.
    Signal,
    /// The relay.
    Relay,
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Management => "management",
            Self::Sync => "sync",
            Self::Signal => "signal",
            Self::Relay => "relay",
        })
    }
}

/// One connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// How it stands.
    pub state: LinkState,
    /// Where it goes; empty before that is known.
    pub target: String,
    /// Why it failed last; cleared when it is up.
    pub last_error: Option<String>,
}

impl LinkStatus {
    /// True when it is up.
    pub fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing to connect to yet.
    #[default]
    Idle,
    /// Being made, or waiting for the next try.
    Connecting,
    /// Made.
    Up,
}

/// What the mesh gave us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshInfo {
    /// Our public key.
    pub key: WgPublicKey,
    /// Our overlay address.
    pub address: Ipv4Addr,
    /// Prefix length of the overlay network.
    pub prefix: u8,
    /// Our overlay address of version 6.
    pub address_v6: Option<Ipv6Addr>,
    /// Our name in the mesh.
    pub fqdn: String,
}

/// Why the client has given up; only a new client with other settings can help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermanentFailure {
    /// Management refused the setup key.
    #[error("management {management} refused the setup key: {reason}")]
    SetupKeyRefused {
        /// The server.
        management: String,
        /// What it said.
        reason: String,
    },
    /// Management does not let this peer in, and there is no setup key to show.
    #[error("management {management} does not know this peer: {reason}")]
    NotAdmitted {
        /// The server.
        management: String,
        /// What it said.
        reason: String,
    },
    /// The peer was deleted or blocked while it ran.
    #[error("management {management} ended this peer's membership: {reason}")]
    Removed {
        /// The server.
        management: String,
        /// What it said.
        reason: String,
    },
}

/// A peer of the map.
#[derive(Debug, Clone)]
pub struct PeerSummary {
    /// Its key.
    pub key: WgPublicKey,
    /// Its name in the mesh.
    pub fqdn: String,
    /// Its overlay addresses; the first is its identity.
    pub addresses: Vec<IpAddr>,
    /// A handshake is in force, and nothing says that the peer left.
    pub connected: bool,
    /// How packets reach it.
    pub path: PeerPath,
    /// Time since the last handshake.
    pub last_handshake_age: Option<Duration>,
    /// Bytes received from it.
    pub rx: u64,
    /// Bytes sent to it.
    pub tx: u64,
}

/// How packets reach a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPath {
    /// Not at all.
    None,
    /// Through the relay.
    Relay,
    /// Straight to its UDP socket.
    Direct(SocketAddr),
}
