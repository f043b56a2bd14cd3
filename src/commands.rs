//! What each command does: settings in, a running part out, until the signal to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meshgate_management::app::Management;
use meshgate_management::config::{Config as ManagementConfig, TlsFiles};
use meshgate_mesh::{MeshConfig, load_or_create_key};
use meshgate_proto::{Secret, SystemClock};
use meshgate_proxy::Proxy;
use tracing::info;
use url::Url;

use crate::agent::{Agent, AgentConfig};
use crate::cli::{AgentArgs, Command, ManagementArgs};
use crate::proxy_args::ProxyArgs;
use crate::state_dir::default_state_dir;
use crate::vitals::Vitals;
use crate::{admin, demo, ready_file, shutdown};

/// After this long without joining, an agent that waits says why.
const JOIN_NOTICE: Duration = Duration::from_secs(10);

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Management(args) => management(args).await,
        Command::Proxy(args) => proxy(&args).await,
        Command::Agent(args) => agent(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Admin(command) => admin::run(command).await,
    }
}

async fn management(args: ManagementArgs) -> anyhow::Result<()> {
    let (stop, vitals) = (shutdown::on_signal()?, Vitals::listen()?);
    let exposed = match args.exposed_address {
        Some(url) => url,
        None => default_exposed_address(args.listen, args.tls_cert.is_some())?,
    };
    let mut config = ManagementConfig::new(args.data_dir, exposed);
    config.listen = args.listen;
    config.tls = args
        .tls_cert
        .zip(args.tls_key)
        .map(|(cert, key)| TlsFiles { cert, key });
    config.auth_secret = args.auth_secret_file.as_deref().map(read_secret).transpose()?;
    config.stuns = args.stuns;
    if let Some(domain) = args.dns_domain {
        config.dns_domain = domain;
    }
    let running = Management::start(config, Arc::new(SystemClock))
        .await
        .context("cannot start the management server")?;
    if let Some(path) = &args.ready_file {
        ready_file::write(path, &serde_json::json!({ "listen": running.local_addr() }))?;
    }
    vitals.tell(Vec::new());
    stop.cancelled().await;
    running.shutdown().await;
    info!("Stopped");
    Ok(())
}

async fn proxy(args: &ProxyArgs) -> anyhow::Result<()> {
    let (stop, vitals) = (shutdown::on_signal()?, Vitals::listen()?);
    let config = args.config()?;
    let running = tokio::select! {
        running = Proxy::start(config, Arc::new(SystemClock)) => running.context("cannot start the proxy")?,
        () = stop.cancelled() => return Ok(()),
    };
    vitals.tell(running.workers().to_vec());
    stop.cancelled().await;
    running.shutdown().await;
    info!("Stopped");
    Ok(())
}

async fn agent(args: AgentArgs) -> anyhow::Result<()> {
    let (stop, vitals) = (shutdown::on_signal()?, Vitals::listen()?);
    let state_dir = args.state_dir.map_or_else(|| default_state_dir("agent"), Ok)?;
    std::fs::create_dir_all(&state_dir).with_context(|| format!("cannot make {}", state_dir.display()))?;
    let key_file = state_dir.join("wireguard.key");
    let key = load_or_create_key(&key_file).with_context(|| format!("cannot use {}", key_file.display()))?;
    let hostname = args.hostname.map_or_else(host_name, Ok)?;
    let mut mesh = MeshConfig::new(args.management_url, key, hostname);
    mesh.extra_root_ca = args.root_ca;
    mesh.wg_port = Some(args.wireguard_port);
    mesh.direct_paths = !args.force_relay;
    mesh.setup_key = match args.setup_key_file {
        Some(path) => Some(read_secret(&path)?),
        None => args.setup_key.map(Secret::from),
    };
    let agent = Agent::start(AgentConfig {
        mesh,
        allowed: args.allow_ports,
        forward_to: args.forward_to,
    })?;
    vitals.tell(Vec::new());
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        error = agent.failed() => Err(error),
        never = announce(&agent) => never,
    };
    agent.stop().await;
    result
}

/// Says when the agent has joined, or what keeps it from joining; never returns.
async fn announce(agent: &Agent) -> anyhow::Result<()> {
    loop {
        match agent.ready(JOIN_NOTICE).await {
            Ok(info) => {
                info!(address = %info.address, fqdn = %info.fqdn, "Joined the mesh");
                std::future::pending::<()>().await;
            }
            Err(error) => tracing::warn!(%error, "Not in the mesh yet; trying again"),
        }
    }
}

fn default_exposed_address(listen: SocketAddr, tls: bool) -> anyhow::Result<Url> {
    if listen.ip().is_unspecified() {
        let host = host_name()?;
        return Url::parse(&format!("{}://{host}:{}", scheme(tls), listen.port()))
            .with_context(|| format!("host name {host:?} does not make a URL; give --exposed-address"));
    }
    Url::parse(&format!("{}://{listen}", scheme(tls))).context("the listen address does not make a URL")
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("the host has no name; give --hostname")?;
    Ok(name.trim().to_owned())
}

fn read_secret(path: &Path) -> anyhow::Result<Secret<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(text.into())
}
