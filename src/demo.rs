//! `meshgate demo`: management, proxy and agent in one process on loopback, with an origin behind them.
//!
//! It is set up the way a user would do it: the first token by the admin functions, everything else over the
//! REST API. Nothing here is a shortcut: each request crosses the edge, WireGuard and the agent.

mod api;
mod data;
mod origin;
mod probe;
mod publish;
mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meshgate_management::app::{Management, Running as RunningManagement};
use meshgate_management::config::Config as ManagementConfig;
use meshgate_mesh::{ManagementUrl, MeshConfig, load_or_create_key};
use meshgate_proto::{DomainName, Secret, SystemClock};
use meshgate_proxy::{
    CertificateSource, Config as ProxyConfig, ForwardedProto, Proxy, Running as RunningProxy,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::api::Api;
use self::data::DemoData;
use crate::agent::{Agent, AgentConfig, AllowedPorts};
use crate::cli::DemoArgs;
use crate::{ready_file, shutdown};

const BASE_DOMAIN: &str = "proxy.localhost";
/// Clients served at a time.
const MAX_CONNECTIONS: usize = 8192;
/// Longest wait for the agent to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the demo until it is told to stop.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let data = DemoData::open(args.dir.as_deref())?;
    let demo = tokio::select! {
        demo = Demo::start(&args, data) => demo?,
        () = stop.cancelled() => return Ok(()),
    };
    report::print(&demo.published);
    if let Some(path) = &args.ready_file {
        ready_file::write(path, &demo.published)?;
    }
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        error = demo.agent.failed() => Err(error.context("the agent stopped")),
    };
    demo.stop().await;
    result
}

struct Demo {
    published: publish::Published,
    management: RunningManagement,
    proxy: RunningProxy,
    agent: Agent,
    origin: CancellationToken,
    _data: DemoData,
}

impl Demo {
    async fn start(args: &DemoArgs, data: DemoData) -> anyhow::Result<Self> {
        let origin = CancellationToken::new();
        let origin_address = origin::start(origin.clone())
            .await
            .context("cannot start the origin")?;

        let management = start_management(&data.path().join("management")).await?;
        let management_url = format!("http://{}", management.local_addr());
        let tokens = data.tokens(&data.path().join("management")).await?;
        let api = Api::new(&management_url, &tokens.api)?;

        let setup_key = api.create_setup_key().await?;
        let agent = start_agent(&data.path().join("agent"), &management_url, setup_key)?;
        let proxy_dir = data.path().join("proxy");
        let proxy = start_proxy(&proxy_dir, &management_url, &tokens.proxy, args.port).await?;
        let info = agent
            .ready(JOIN_TIMEOUT)
            .await
            .context("the agent did not join the mesh")?;

        let peer = api.peer_with_address(info.address).await?;
        let services = publish::services(&api, &data, BASE_DOMAIN, &peer, origin_address.port()).await?;
        let ca_file = proxy_dir.join("ca").join("ca.crt");
        probe::until_served(&ca_file, proxy.address(), &services).await?;
        let published = publish::Published {
            base_domain: BASE_DOMAIN.to_owned(),
            https_port: proxy.address().port(),
            ca_file: ca_file.display().to_string(),
            management_url,
            api_token: tokens.api.expose().clone(),
            services,
        };
        Ok(Self {
            published,
            management,
            proxy,
            agent,
            origin,
            _data: data,
        })
    }

    async fn stop(self) {
        self.proxy.shutdown().await;
        self.agent.stop().await;
        self.management.shutdown().await;
        self.origin.cancel();
    }
}

async fn start_management(dir: &Path) -> anyhow::Result<RunningManagement> {
    let exposed = Url::parse("http://127.0.0.1:0").context("a fixed URL")?;
    let mut config = ManagementConfig::new(dir, exposed);
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Management::start(config, Arc::new(SystemClock))
        .await
        .context("cannot start the management server")
}

fn start_agent(dir: &Path, management: &str, setup_key: Secret<String>) -> anyhow::Result<Agent> {
    let key = load_or_create_key(&dir.join("wireguard.key")).context("cannot keep the agent's key")?;
    let management: ManagementUrl = management.parse()?;
    let mut mesh = MeshConfig::new(management, key, "demo-agent");
    mesh.setup_key = Some(setup_key);
    mesh.direct_paths = true;
    let allowed: AllowedPorts = "all".parse()?;
    Agent::start(AgentConfig {
        mesh,
        allowed,
        forward_to: Ipv4Addr::LOCALHOST.into(),
    })
}

async fn start_proxy(
    dir: &Path,
    management: &str,
    token: &Secret<String>,
    port: u16,
) -> anyhow::Result<RunningProxy> {
    let config = ProxyConfig {
        management: management.parse()?,
        root_ca: None,
        token: token.clone(),
        allow_insecure: false,
        domain: DomainName::new(BASE_DOMAIN)?,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(),
        health: None,
        certificates: CertificateSource::Authority(dir.join("ca")),
        state_dir: dir.to_owned(),
        forwarded_proto: ForwardedProto::Auto,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        wg_port: 0,
        preshared_key: None,
        max_dial_timeout: None,
        allow_direct: Vec::new(),
        require_subdomain: true,
        max_connections: MAX_CONNECTIONS,
        drain_time: Duration::from_secs(1),
    };
    Proxy::start(config, Arc::new(SystemClock))
        .await
        .context("cannot start the proxy")
}
