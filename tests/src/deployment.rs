//! Management, proxy and agent as three processes, set up as a user would: with `meshgate admin` and REST.

mod detour;
mod health;
mod services;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::client::Visitor;
use crate::process::run;
use crate::websocket::Socket;
use crate::{Client, Folder, HttpVersion, Origin, Process, Rest, eventually, ports, within};

pub use self::detour::{Detour, Paths};
pub use self::services::{Access, Published};

/// Domain of the cluster.
pub const CLUSTER: &str = "proxy.test";

/// Host name that the agent reports.
pub const AGENT_NAME: &str = "origin-host";

/// Longest wait for a part to come up.
const START: Duration = Duration::from_mins(1);

/// One of the three processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Control plane.
    Management,
    /// Data plane.
    Proxy,
    /// The peer beside the origin.
    Agent,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Management => "management",
            Self::Proxy => "proxy",
            Self::Agent => "agent",
        })
    }
}

/// Three processes, an origin, and the keys to them.
#[derive(Debug)]
pub struct Deployment {
    /// What the agent stands beside.
    pub origin: Origin,
    /// What the setup commands printed.
    pub keys: Keys,
    management: Option<Process>,
    proxy: Option<Process>,
    agent: Option<Process>,
    ports: Ports,
    detour: Detour,
    folder: Folder,
}

/// What the setup commands printed.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For the REST API.
    pub api_token: String,
    /// For the proxy.
    pub proxy_token: String,
    /// For the agent.
    pub setup_key: String,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    management: u16,
    edge: u16,
    health: u16,
}

/// The deployment that tests share; a failing test prints its logs.
#[derive(Debug)]
pub struct SharedDeployment(&'static Deployment);

impl Deref for SharedDeployment {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        self.0
    }
}

impl Drop for SharedDeployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for part in [Part::Management, Part::Proxy, Part::Agent] {
                eprintln!("{}", self.0.process(part).log_tail());
            }
        }
    }
}

impl Deployment {
    /// The deployment that tests share which stop nothing. It ends with the test run.
    pub async fn shared() -> SharedDeployment {
        static SHARED: OnceCell<Deployment> = OnceCell::const_new();
        SharedDeployment(SHARED.get_or_init(Self::start).await)
    }

    /// Sets up, starts all three and waits until services can be published.
    pub async fn start() -> Self {
        let mut deployment = Self::set_up().await;
        for part in [Part::Management, Part::Proxy, Part::Agent] {
            deployment.launch(part);
            deployment.up(part).await;
        }
        deployment
    }

    /// Runs the setup commands and starts nothing.
    pub async fn set_up() -> Self {
        Self::set_up_in(Folder::new()).await
    }

    /// Runs the setup commands in a folder, which may hold file systems of its own.
    pub async fn set_up_in(folder: Folder) -> Self {
        let data = folder.argument("management");
        let init = run(
            &[
                "admin",
                "init",
                "--data-dir",
                &data,
                "--email",
                "admin@example.test",
            ],
            &[],
        )
        .await;
        let token = run(
            &["admin", "token", "create", "--data-dir", &data, "--name", "proxy"],
            &[],
        )
        .await;
        let key = run(
            &[
                "admin",
                "setup-key",
                "create",
                "--data-dir",
                &data,
                "--name",
                "agents",
            ],
            &[],
        )
        .await;
        Self {
            origin: Origin::start().await,
            keys: Keys {
                api_token: init.line("Token:"),
                proxy_token: token.line("Token:"),
                setup_key: key.line("Setup key:"),
            },
            management: None,
            proxy: None,
            agent: None,
            ports: Ports {
                management: ports::reserve(),
                edge: ports::reserve(),
                health: ports::reserve(),
            },
            detour: Detour::default(),
            folder,
        }
    }

    /// Starts a part without waiting for it.
    pub fn launch(&mut self, part: Part) {
        let process = match part {
            Part::Management => self.launch_management(),
            Part::Proxy => self.launch_proxy(),
            Part::Agent => self.start_agent(self.origin.address().port()),
        };
        *self.slot(part) = Some(process);
    }

    fn launch_management(&self) -> Process {
        let data = self.folder.argument("management");
        let listen = format!("127.0.0.1:{}", self.ports.management);
        let exposed = self.detour.exposed(self.management_address());
        let args = [
            "management",
            "--data-dir",
            &data,
            "--listen",
            &listen,
            "--exposed-address",
            &exposed,
        ];
        Process::start("management", self.folder.path(), &args, &[])
    }

    fn launch_proxy(&self) -> Process {
        let management = self.detour.control(self.management_address());
        let address = self.edge().to_string();
        let ca = self.folder.argument("ca");
        let state = self.folder.argument("proxy");
        let health = format!("127.0.0.1:{}", self.ports.health);
        let reach = [
            "proxy",
            "--mgmt",
            &management,
            "--addr",
            &address,
            "--domain",
            CLUSTER,
        ];
        let own = ["--ca-dir", &ca, "--state-dir", &state, "--health-addr", &health];
        let env = [
            ("NB_PROXY_TOKEN", self.keys.proxy_token.as_str()),
            ("NB_PROXY_ALLOW_INSECURE", "true"),
        ];
        Process::start(
            "proxy",
            self.folder.path(),
            &[reach.as_slice(), &own].concat(),
            &env,
        )
    }

    /// Starts an agent that may reach this port of the origin's machine.
    pub fn start_agent(&self, port: u16) -> Process {
        let management = self.detour.control(self.management_address());
        let state = self.folder.argument("agent");
        let port = port.to_string();
        let reach = [
            "agent",
            "--management-url",
            &management,
            "--setup-key",
            &self.keys.setup_key,
        ];
        let own = [
            "--state-dir",
            &state,
            "--allow-ports",
            &port,
            "--hostname",
            AGENT_NAME,
        ];
        Process::start(
            "agent",
            self.folder.path(),
            &[reach.as_slice(), &own, self.detour.agent_flags()].concat(),
            &[],
        )
    }

    /// Waits until a part is of use.
    pub async fn up(&mut self, part: Part) {
        let rest = self.rest();
        let process = self.slot(part).as_mut().expect("the part was started");
        within(START, &format!("{part} is up"), async || {
            process.check();
            match part {
                Part::Management => rest.get("/api/groups").await.map(|_| ()),
                Part::Proxy => cluster_is_online(&rest).await,
                Part::Agent => agent(&rest).await.map(|_| ()),
            }
        })
        .await;
    }

    /// Asks a part to stop and waits for its clean end.
    ///
    /// # Panics
    /// When it does not run, or ends with an error.
    pub async fn stop(&mut self, part: Part) {
        self.slot(part).take().expect("the part runs").stop().await;
    }

    /// Kills a part without notice.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, part: Part) {
        self.slot(part).take().expect("the part runs").kill();
    }

    /// Takes a part out, so that a test can stop it in its own way.
    ///
    /// # Panics
    /// When it does not run.
    pub fn take(&mut self, part: Part) -> Process {
        self.slot(part).take().expect("the part runs")
    }

    /// A running part.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&self, part: Part) -> &Process {
        let process = match part {
            Part::Management => &self.management,
            Part::Proxy => &self.proxy,
            Part::Agent => &self.agent,
        };
        process.as_ref().expect("the part runs")
    }

    /// How a part ended that was not asked to.
    ///
    /// # Panics
    /// When it was never started.
    pub fn ended(&mut self, part: Part) -> Option<std::process::ExitStatus> {
        self.slot(part).as_mut().expect("the part was started").ended()
    }

    fn slot(&mut self, part: Part) -> &mut Option<Process> {
        match part {
            Part::Management => &mut self.management,
            Part::Proxy => &mut self.proxy,
            Part::Agent => &mut self.agent,
        }
    }

    /// The agent's peer as the API shows it.
    pub async fn agent_peer(&self) -> Value {
        let rest = self.rest();
        eventually("the agent is a peer", async || agent(&rest).await).await
    }

    /// A visitor of the services.
    pub fn client(&self, version: HttpVersion) -> Client {
        Client::new(
            &self.ca_file(),
            self.edge(),
            Visitor {
                version,
                address: None,
            },
        )
    }

    /// Opens a WebSocket at a path of a service.
    ///
    /// # Errors
    /// What the service answered instead.
    pub async fn websocket(&self, domain: &str, path: &str) -> Result<Socket, String> {
        Socket::open(&self.ca_file(), self.edge(), domain, path, None).await
    }

    /// The certificate of the authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca").join("ca.crt")
    }

    /// The edge.
    pub fn edge(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.edge))
    }

    /// The management server.
    pub fn management_url(&self) -> String {
        format!("http://{}", self.management_address())
    }

    /// Where management listens.
    pub fn management_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.management))
    }

    /// Leads parts that are launched from now on another way.
    pub fn lead(&mut self, detour: Detour) {
        self.detour = detour;
    }

    /// The folder of management's data.
    pub fn data_dir(&self) -> String {
        self.folder.argument("management")
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The REST API.
    pub fn rest(&self) -> Rest {
        Rest::new(&self.management_url(), &self.keys.api_token)
    }
}

async fn cluster_is_online(rest: &Rest) -> Result<(), String> {
    let clusters = rest.get("/api/reverse-proxies/clusters").await?;
    let online = clusters
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["address"] == CLUSTER && c["online"] == true);
    if online {
        Ok(())
    } else {
        Err(format!("clusters: {clusters}"))
    }
}

async fn agent(rest: &Rest) -> Result<Value, String> {
    let peers = rest.get("/api/peers").await?;
    let mut peers_named = peers
        .as_array()
        .into_iter()
        .flatten()
        .filter(|peer| peer["hostname"] == AGENT_NAME);
    let found = peers_named.find(|peer| peer["connected"] == true).cloned();
    found.ok_or_else(|| format!("peers: {peers}"))
}
