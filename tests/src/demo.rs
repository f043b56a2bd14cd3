//! `meshgate demo` as one process.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::client::Visitor;
use crate::websocket::Socket;
use crate::{Client, Folder, HttpVersion, Process, Rest, ports, within};

/// Longest wait for the demo: the bound of the product is shorter and tested on its own.
const START: Duration = Duration::from_mins(1);

/// A running demo.
#[derive(Debug)]
pub struct Demo {
    /// What the ready file says.
    pub ready: Ready,
    process: Option<Process>,
    folder: Folder,
    port: u16,
    started_in: Duration,
}

/// What the ready file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Domain of the cluster.
    pub base_domain: String,
    /// Port of the edge.
    pub https_port: u16,
    /// Certificate of the authority.
    pub ca_file: PathBuf,
    /// Management server.
    pub management_url: String,
    /// Token for the REST API.
    pub api_token: String,
    /// What is published.
    pub services: Vec<Service>,
}

/// A published service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// Host.
    pub domain: String,
    /// none, pin or password.
    pub auth: String,
    /// The PIN or password.
    pub secret: Option<String>,
}

impl Service {
    /// The PIN or password.
    ///
    /// # Panics
    /// When the service is open.
    pub fn secret(&self) -> &str {
        self.secret.as_deref().expect("the service has a secret")
    }
}

/// The demo that tests share; a failing test prints its log.
#[derive(Debug)]
pub struct SharedDemo(&'static Demo);

impl Deref for SharedDemo {
    type Target = Demo;

    fn deref(&self) -> &Demo {
        self.0
    }
}

impl Drop for SharedDemo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.process().log_tail());
        }
    }
}

impl Demo {
    /// The demo that tests share which disturb nobody. It ends with the test run.
    pub async fn shared() -> SharedDemo {
        static SHARED: OnceCell<Demo> = OnceCell::const_new();
        SharedDemo(SHARED.get_or_init(Self::start).await)
    }

    /// Starts a demo in a folder of its own and waits until it answers.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let port = ports::reserve();
        let (process, ready, started_in) = start(&folder, port).await;
        Self {
            ready,
            process: Some(process),
            folder,
            port,
            started_in,
        }
    }

    /// Starts the process again over the same data.
    ///
    /// # Panics
    /// When it does not end cleanly or does not come up.
    pub async fn restart(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
        let (process, ready, started_in) = start(&self.folder, self.port).await;
        self.process = Some(process);
        self.ready = ready;
        self.started_in = started_in;
    }

    /// How long the last start took until everything answered.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The process.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the demo runs")
    }

    /// Presses Ctrl-C and waits for a clean end.
    pub async fn interrupt(mut self) {
        if let Some(process) = self.process.take() {
            process.signal("INT");
            process.ended_cleanly().await;
        }
    }

    /// A service by its name.
    ///
    /// # Panics
    /// When it is not published.
    pub fn service(&self, name: &str) -> &Service {
        self.ready
            .services
            .iter()
            .find(|service| service.name == name)
            .expect("the service is published")
    }

    /// A visitor of the services.
    pub fn client(&self, version: HttpVersion) -> Client {
        Client::new(
            &self.ready.ca_file,
            self.edge(),
            Visitor {
                version,
                address: None,
            },
        )
    }

    /// A visitor with an address of its own, who is not held back for what others did.
    pub fn client_at(&self, version: HttpVersion, address: [u8; 4]) -> Client {
        let address = Some(IpAddr::from(address));
        Client::new(&self.ready.ca_file, self.edge(), Visitor { version, address })
    }

    /// Opens a WebSocket at a path of a service.
    ///
    /// # Errors
    /// What the service answered instead.
    pub async fn websocket(&self, domain: &str, path: &str, cookie: Option<&str>) -> Result<Socket, String> {
        Socket::open(&self.ready.ca_file, self.edge(), domain, path, cookie).await
    }

    /// The edge.
    pub fn edge(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ready.https_port))
    }

    /// The REST API.
    pub fn rest(&self) -> Rest {
        Rest::new(&self.ready.management_url, &self.ready.api_token)
    }
}

async fn start(folder: &Folder, port: u16) -> (Process, Ready, Duration) {
    let ready_file = folder.argument("ready.json");
    let _ = std::fs::remove_file(&ready_file);
    let port = port.to_string();
    let data = folder.argument("data");
    let args = [
        "demo",
        "--port",
        &port,
        "--dir",
        &data,
        "--ready-file",
        &ready_file,
    ];
    let begin = Instant::now();
    let mut process = Process::start("demo", folder.path(), &args, &[]);
    let (ready, _) = within(START, "the demo is ready", async || {
        process.check();
        let text = std::fs::read(&ready_file).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    })
    .await;
    (process, ready, begin.elapsed())
}
