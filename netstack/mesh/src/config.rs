//! Settings of a mesh client.

use std::io;
use std::path::PathBuf;

use meshgate_netstack::{Inbound, PresharedKey};
use meshgate_proto::network_map::MetaFlags;
use meshgate_proto::{Secret, WgPrivateKey};

use crate::ManagementUrl;

/// What a mesh client is made of.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// Where the mesh is joined.
    pub management: ManagementUrl,
    /// A PEM file with certificate authorities that count beside the machine's own, for management, signal and
    /// relay alike.
    pub extra_root_ca: Option<PathBuf>,
    /// Our identity in the mesh; keep it, or each start makes a new peer.
    pub private_key: WgPrivateKey,
    /// Shown only when management does not know our key yet.
    pub setup_key: Option<Secret<String>>,
    /// Our name; the mesh derives our DNS label from it.
    pub hostname: String,
    /// Version of the mesh protocol's features that we claim; a semantic version such as `0.77.1`.
    pub version: String,
    /// A key that every peer of the mesh was given beside management.
    pub preshared_key: Option<PresharedKey>,
    /// UDP port; `None` and 0 choose a free one.
    pub wg_port: Option<u16>,
    /// Looks for direct paths to peers of our own kind; without it the relay carries everything.
    pub direct_paths: bool,
    /// What becomes of connections that peers open.
    pub inbound: Inbound,
    /// Local settings that management is told.
    pub flags: MetaFlags,
    /// Further names that we ask for.
    pub dns_labels: Vec<String>,
}

impl MeshConfig {
    /// Settings with a relay-only node that takes no connections.
    pub fn new(management: ManagementUrl, private_key: WgPrivateKey, hostname: impl Into<String>) -> Self {
        Self {
            management,
            extra_root_ca: None,
            private_key,
            setup_key: None,
            hostname: hostname.into(),
            version: DEFAULT_VERSION.to_owned(),
            preshared_key: None,
            wg_port: None,
            direct_paths: false,
            inbound: Inbound::DenyAll,
            flags: MetaFlags::default(),
            dns_labels: Vec::new(),
        }
    }
}

/// The release of the protocol that this client follows. Peers and servers gate features by it.
const DEFAULT_VERSION: &str = "0.77.1";

/// Why a mesh client cannot start at all. What may heal is retried and shown in the status instead.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host name is empty; management would refuse it.
    #[error("the host name is empty")]
    EmptyHostname,
    /// The version is not of the form `1.2.3`.
    #[error("{0:?} is not a semantic version")]
    InvalidVersion(String),
    /// The setup key is no UUID, so no server can know it.
    #[error("the setup key is not a UUID")]
    InvalidSetupKey,
    /// The file of certificate authorities is unusable.
    #[error("cannot use certificate authorities of {path}")]
    RootCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The WireGuard socket could not be bound.
    #[error("cannot start the WireGuard node")]
    Netstack(#[source] io::Error),
}
