//! Settings of the control plane as plain values. Files, flags and the environment are read elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshgate_proto::Secret;
use url::Url;

/// Ports that services below HTTP get when they ask for none.
pub const DEFAULT_PROXY_PORTS: RangeInclusive<u16> = 10_000..=49_151;

/// Domain under which peers find each other by name.
pub const DEFAULT_DNS_DOMAIN: &str = "netbird.selfhosted";

/// Certificate and key of the one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Settings of the control plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database and the key files are.
    pub data_dir: PathBuf,
    /// Where the one port listens.
    pub listen: SocketAddr,
    /// How peers, proxies and browsers reach it.
    pub exposed_address: Url,
    /// TLS of the one port; none = h2c and plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Secret of the relay credentials; none = made at the first start and kept in the data directory.
    pub auth_secret: Option<Secret<String>>,
    /// Key of what is encrypted at rest; none = made at the first start and kept in the data directory.
    pub encryption_key_file: Option<PathBuf>,
    /// Ports that services below HTTP get when they ask for none.
    pub proxy_ports: RangeInclusive<u16>,
    /// Domain under which peers find each other by name.
    pub dns_domain: String,
    /// STUN servers told to peers, such as `stun:stun.example.com:3478`.
    pub stuns: Vec<String>,
    /// How long access logs are kept; none = for ever.
    pub access_log_retention: Option<Duration>,
}

impl Config {
    /// Settings that do for one machine: loopback, port of the system's choice, no TLS.
    pub fn new(data_dir: impl Into<PathBuf>, exposed_address: Url) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            exposed_address,
            tls: None,
            auth_secret: None,
            encryption_key_file: None,
            proxy_ports: DEFAULT_PROXY_PORTS,
            dns_domain: DEFAULT_DNS_DOMAIN.to_owned(),
            stuns: Vec::new(),
            access_log_retention: Some(Duration::from_hours(7 * 24)),
        }
    }

    /// The database.
    pub fn store_path(&self) -> PathBuf {
        store_path(&self.data_dir)
    }

    /// The key of what is encrypted at rest.
    pub fn encryption_key_path(&self) -> PathBuf {
        self.encryption_key_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join("encryption.key"))
    }
}

/// The database of a data directory.
pub fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store.db")
}
