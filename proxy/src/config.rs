//! Everything that can be set about a proxy, as plain values.
//!
//! The names, defaults and rules of reading stand in one table, [`SETTINGS`]; [`Config::from_lookup`] reads
//! them from wherever the caller keeps them (flags first, then the environment).

mod env;
mod listen;
#[cfg(test)]
mod tests;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshgate_certs::CertResolver;
use meshgate_mesh::{ManagementUrl, PresharedKey};
use meshgate_proto::{Cidr, DomainName, Secret};

pub use env::{ConfigError, SETTINGS, Setting};
pub use listen::{InvalidListenAddress, ListenAddress};

/// The settings of one proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// The management server, for the proxy and for the tunnels of every account.
    pub management: ManagementUrl,
    /// Further certificate authorities that may vouch for management, in a PEM file.
    pub root_ca: Option<PathBuf>,
    /// Opens the proxy service of management.
    pub token: Secret<String>,
    /// Lets the token travel in the clear to a management server on another machine.
    pub allow_insecure: bool,
    /// The name under which the cluster is known; services live below it or under names of their own.
    pub domain: DomainName,
    /// Where clients connect.
    pub listen: ListenAddress,
    /// Where health and metrics are served; nowhere when absent.
    pub health: Option<ListenAddress>,
    /// Where certificates come from.
    pub certificates: CertificateSource,
    /// What is kept over restarts: the proxy's name and its WireGuard keys.
    pub state_dir: PathBuf,
    /// What targets are told about the client's scheme.
    pub forwarded_proto: ForwardedProto,
    /// Proxies in front of this one whose forwarding headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Connections may begin with a PROXY header, and those of trusted proxies must. Without trusted proxies
    /// anybody's header is believed.
    pub proxy_protocol: bool,
    /// UDP port of the tunnels; 0 chooses. A fixed port serves one account only.
    pub wg_port: u16,
    /// A key that every peer was given beside management.
    pub preshared_key: Option<PresharedKey>,
    /// Longest wait for a connection to a target, whatever its service says.
    pub max_dial_timeout: Option<Duration>,
    /// Special addresses that targets may have which are reached without a tunnel: loopback, link-local and the
    /// like belong to the operator, not to the tenants.
    pub allow_direct: Vec<Cidr>,
    /// The cluster's own name carries no service.
    pub require_subdomain: bool,
    /// Clients that are served at a time; more wait until one goes.
    pub max_connections: usize,
    /// How long requests under way may take once the proxy was told to stop.
    pub drain_time: Duration,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// One chain and key in files, read again when they change.
    Pair {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Every pair `*.crt` and `*.key` of a directory, read again when they change.
    Directory(PathBuf),
    /// An internal authority that lives in a directory and serves the cluster's domain.
    Authority(PathBuf),
    /// Certificates that the caller takes care of.
    Resolver(Arc<CertResolver>),
}

/// What targets are told about the client's scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedProto {
    /// What the client used.
    #[default]
    Auto,
    /// Always http.
    Http,
    /// Always https.
    Https,
}

impl Config {
    /// Says why the token must not be sent to management, if so.
    ///
    /// In the clear it goes to this machine only, unless the operator allows more.
    pub(crate) fn check_token_exposure(&self) -> Result<(), InsecureManagement> {
        let safe = self.management.is_tls() || self.allow_insecure || is_loopback(&self.management.host());
        if safe {
            Ok(())
        } else {
            Err(InsecureManagement {
                management: self.management.to_string(),
            })
        }
    }
}

/// The token would travel in the clear over a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the proxy token would travel unencrypted to {management}: use an https:// address in \
     NB_PROXY_MANAGEMENT_ADDRESS, or set NB_PROXY_ALLOW_INSECURE=true if the network between is trusted"
)]
pub struct InsecureManagement {
    management: String,
}

fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}
