//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use meshgate_mesh::ManagementUrl;
use url::Url;

use crate::admin::AdminCommand;
use crate::agent::AllowedPorts;
use crate::logging::LogArgs;
use crate::proxy_args::ProxyArgs;

/// Zero-trust reverse proxy: publishes services that must not face the internet.
///
/// A management server knows who and what, a proxy ends HTTPS and decides who may pass, an agent beside each
/// service hands over what comes through the WireGuard mesh. This program is all three.
#[derive(Parser, Debug)]
#[command(name = "meshgate", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the management server: REST, gRPC for proxies and peers, signal and relay on one port.
    Management(ManagementArgs),
    /// Run a proxy: the HTTPS edge.
    Proxy(ProxyArgs),
    /// Run an agent: a peer that hands connections from the mesh to services of this machine.
    Agent(AgentArgs),
    /// Run all of it on this machine, with three published services to try.
    Demo(DemoArgs),
    /// Work on the management server's data from the shell: first admin, tokens, setup keys.
    #[command(subcommand)]
    Admin(AdminCommand),
}

/// Settings of `meshgate management`.
#[derive(Args, Debug)]
pub(crate) struct ManagementArgs {
    /// Where the database and the key files are.
    #[arg(
        long,
        env = "MESHGATE_DATA_DIR",
        default_value = "/var/lib/meshgate",
        value_name = "DIR"
    )]
    pub(crate) data_dir: PathBuf,

    /// Where the one port listens.
    #[arg(
        long,
        env = "MESHGATE_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// How peers, proxies and browsers reach this server, such as `https://mesh.example.com`.
    ///
    /// Relay and signal addresses are derived from it. Default: `http://` and the address of --listen.
    #[arg(long, env = "MESHGATE_EXPOSED_ADDRESS", value_name = "URL")]
    pub(crate) exposed_address: Option<Url>,

    /// Certificate chain of the port, PEM; without it the port speaks plain HTTP and h2c.
    #[arg(long, env = "MESHGATE_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM.
    #[arg(long, env = "MESHGATE_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// File with the secret of the relay credentials; made in the data directory when not given.
    #[arg(long, env = "MESHGATE_AUTH_SECRET_FILE", value_name = "FILE")]
    pub(crate) auth_secret_file: Option<PathBuf>,

    /// Domain under which peers find each other by name.
    #[arg(long, env = "MESHGATE_DNS_DOMAIN", value_name = "DOMAIN")]
    pub(crate) dns_domain: Option<String>,

    /// STUN server told to peers, such as `stun:stun.example.com:3478`; may be given several times.
    #[arg(
        long = "stun",
        env = "MESHGATE_STUN",
        value_delimiter = ',',
        value_name = "URI"
    )]
    pub(crate) stuns: Vec<String>,

    /// Write `{"url":…}` here once the server answers.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// Settings of `meshgate agent`.
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// Management server, such as `https://mesh.example.com`.
    #[arg(long, env = "NB_MANAGEMENT_URL", value_name = "URL")]
    pub(crate) management_url: ManagementUrl,

    /// Key with which this machine joins; not needed again once it has joined.
    #[arg(long, env = "NB_SETUP_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) setup_key: Option<String>,

    /// File that holds the setup key.
    #[arg(
        long,
        env = "NB_SETUP_KEY_FILE",
        conflicts_with = "setup_key",
        value_name = "FILE"
    )]
    pub(crate) setup_key_file: Option<PathBuf>,

    /// PEM file of an authority that signed the management server's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_ca: Option<PathBuf>,

    /// Name of this machine in the mesh; default: its host name.
    #[arg(long, env = "NB_HOSTNAME", value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// Ports of this machine that the mesh may reach: `all`, or ports and ranges such as `80,8000-8100`.
    ///
    /// The policies of the management server apply as well.
    #[arg(
        long,
        env = "MESHGATE_ALLOW_PORTS",
        default_value = "all",
        value_name = "PORTS"
    )]
    pub(crate) allow_ports: AllowedPorts,

    /// Address of this machine to which connections are handed.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    pub(crate) forward_to: IpAddr,

    /// UDP port of WireGuard; 0 chooses a free one.
    #[arg(long, env = "NB_WIREGUARD_PORT", default_value_t = 0, value_name = "PORT")]
    pub(crate) wireguard_port: u16,

    /// Reach peers through the relay alone, never by a direct path.
    #[arg(long, env = "NB_FORCE_RELAY")]
    pub(crate) force_relay: bool,

    /// Where the machine's key is kept. Default: /var/lib/meshgate for root, else ~/.local/state/meshgate.
    #[arg(long, env = "NB_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Settings of `meshgate demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Port of the HTTPS edge on loopback; 0 chooses a free one.
    #[arg(long, default_value_t = 8443)]
    pub(crate) port: u16,

    /// Where the demo's data is kept. Default: a temporary directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Write what is published, as JSON, once everything answers. The file holds secrets (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
