//! Two network namespaces with tunnels of both makes between them.
//!
//! The server's namespace runs wireguard-go with a server on ordinary sockets behind it, and a server on our
//! netstack. The client's namespace runs wireguard-go; clients come and go as they are measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use meshgate_tests::{Folder, Process, eventually};
use serde::Deserialize;

use super::keys::{Keys, Pair};
use crate::netns::{self, Namespace};

/// Addresses on the wire between the namespaces.
const CLIENT_WIRE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
const SERVER_WIRE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
/// Addresses inside the tunnels: the client's wireguard-go, and the servers.
const CLIENT_KERNEL: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 1);
const SERVER_KERNEL: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 2);
const SERVER_OURS: Ipv4Addr = Ipv4Addr::new(10, 93, 0, 2);
/// UDP ports of wireguard-go and of our server.
const KERNEL_TUNNEL: u16 = 51_820;
const OUR_TUNNEL: u16 = 51_830;
/// TCP ports of the servers, and of the counters of what was uploaded.
const LOADS: u16 = 7000;
const KERNEL_COUNTER: u16 = 7001;
const OUR_COUNTER: u16 = 7002;
/// UDP port of a relay in the client's namespace.
const RELAY: u16 = 51_840;
/// Ordinary sockets keep the congestion control that most Linux machines have.
const CONGESTION: &str = "cubic";
/// How long a client may take beyond its measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Namespaces, tunnels and servers.
#[derive(Debug)]
pub(crate) struct Lab {
    peer: PathBuf,
    mtu: u16,
    keys: Keys,
    wireguard_go: Process,
    tunnel_name: String,
    server_tunnel_name: String,
    // Dropped in this order: processes before the namespaces they live in.
    _processes: Vec<Process>,
    client: Namespace,
    _server: Namespace,
    folder: Folder,
}

/// Who talks with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pairing {
    /// Our client, and kernel TCP behind wireguard-go.
    OursToKernel,
    /// The same with keys of its own, beside other measurements.
    OursBeside,
    /// Kernel TCP over wireguard-go on both sides.
    Kernel,
    /// Our netstack on both sides.
    Ours,
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) pairing: Pairing,
    /// `down`, `up` or `requests`.
    pub(crate) load: &'static str,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    /// Between two requests of a connection.
    pub(crate) pace: Duration,
    /// Where the peer seems to be, if not where it is.
    pub(crate) endpoint: Option<SocketAddr>,
}

/// What a client tells.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Outcome {
    seconds: f64,
    bytes: f64,
    requests: f64,
    pub(crate) errors: f64,
    cpu_seconds: f64,
    beside_cpu_seconds: f64,
    p99_us: f64,
    longest_us: f64,
}

impl Outcome {
    pub(crate) fn megabits(&self) -> f64 {
        self.bytes * 8.0 / 1e6 / self.seconds
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests / self.seconds
    }

    pub(crate) fn cpu_s_per_gb(&self) -> f64 {
        self.cpu() / (self.bytes / 1e9)
    }

    pub(crate) fn request_cpu_us(&self) -> f64 {
        self.cpu() / self.requests * 1e6
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.p99_us / 1e3
    }

    pub(crate) fn longest_ms(&self) -> f64 {
        self.longest_us / 1e3
    }

    /// CPU seconds of the client's side of the tunnel.
    fn cpu(&self) -> f64 {
        self.cpu_seconds + self.beside_cpu_seconds
    }
}

impl Lab {
    /// Starts everything, and waits until every pairing has spoken.
    pub(crate) async fn start(mtu: u16) -> anyhow::Result<Self> {
        netns::remove_leftovers();
        let peer = program_of("MESHGATE_BENCH_PEER")?;
        let wireguard_go = program_of("MESHGATE_BENCH_WIREGUARD_GO")?;
        let folder = Folder::new();
        let keys = Keys::generate(folder.path())?;
        let client = Namespace::new('a')?;
        let server = Namespace::new('b')?;
        client.join(CLIENT_WIRE, &server, SERVER_WIRE)?;

        let id = std::process::id();
        let (near, far) = (format!("mgb{id}a"), format!("mgb{id}b"));
        let run = |namespace: &Namespace, name: &str, program: &Path, arguments: &[&str]| {
            let program = program.to_string_lossy();
            let line = namespace.enter(&program, arguments);
            Process::start_program(name, folder.path(), netns::program(), &line)
        };
        let near_process = run(&client, "wireguard-go-client", &wireguard_go, &["-f", &near]);
        let far_process = run(&server, "wireguard-go-server", &wireguard_go, &["-f", &far]);
        for name in [&near, &far] {
            let socket = Path::new("/var/run/wireguard").join(format!("{name}.sock"));
            eventually("wireguard-go listens", async || {
                socket.exists().then_some(()).ok_or("no socket")
            })
            .await;
        }
        configure(&near, &keys.client, &[(&keys.server, SERVER_KERNEL)])?;
        let peers = [
            (&keys.client, CLIENT_KERNEL),
            (&keys.ours, Pairing::OursToKernel.address()),
            (&keys.beside, Pairing::OursBeside.address()),
        ];
        configure(&far, &keys.server, &peers)?;
        for (namespace, name, address) in [(&client, &near, CLIENT_KERNEL), (&server, &far, SERVER_KERNEL)] {
            namespace.ip(&["address", "add", &format!("{address}/24"), "dev", name])?;
            namespace.ip(&["link", "set", name, "mtu", &mtu.to_string(), "up"])?;
        }
        let kernel_server = run(
            &server,
            "server-kernel",
            &peer,
            &words(&format!(
                "serve --congestion {CONGESTION} --listen {SERVER_KERNEL}:{LOADS} \
                 --counter {SERVER_WIRE}:{KERNEL_COUNTER}"
            )),
        );
        let our_server = run(
            &server,
            "server-ours",
            &peer,
            &words(&format!(
                "serve --listen {SERVER_OURS}:{LOADS} --counter {SERVER_WIRE}:{OUR_COUNTER} --mtu {mtu} \
                 --key {} --peer-key {} --address {SERVER_OURS} --peer-address {} --bind {SERVER_WIRE}:{OUR_TUNNEL}",
                keys.our_server.private,
                keys.ours.public,
                Pairing::Ours.address(),
            )),
        );
        let lab = Self {
            peer,
            mtu,
            keys,
            wireguard_go: near_process,
            tunnel_name: near,
            server_tunnel_name: far,
            _processes: vec![far_process, kernel_server, our_server],
            client,
            _server: server,
            folder,
        };
        for pairing in [Pairing::Kernel, Pairing::OursToKernel, Pairing::Ours] {
            let greeting = Trial::requests(pairing, 1, 0.05);
            eventually("the servers answer", async || lab.measure(&greeting).await).await;
        }
        Ok(lab)
    }

    /// Runs a client to its end.
    pub(crate) async fn measure(&self, trial: &Trial) -> anyhow::Result<Outcome> {
        if trial.pairing == Pairing::Kernel {
            self.set_endpoint(trial.endpoint.unwrap_or(Pairing::Kernel.endpoint()))?;
        }
        let arguments = self.arguments(trial);
        let peer = self.peer.to_string_lossy();
        let line = self.client.enter(&peer, &words(&arguments));
        let mut command = tokio::process::Command::new(netns::program());
        command.args(line).stdin(Stdio::null()).kill_on_drop(true);
        let limit = Duration::from_secs_f64(trial.warm_up + trial.seconds) + PATIENCE;
        let output = tokio::time::timeout(limit, command.output())
            .await
            .with_context(|| format!("{trial:?} did not end"))??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{trial:?}: {}", said.trim());
        serde_json::from_slice(&output.stdout).with_context(|| format!("{trial:?} told nothing"))
    }

    /// Starts a relay between the clients' end of a pairing's path and its server, in the client's namespace; its own
    /// address is what a trial takes as endpoint. Delay in milliseconds and loss in percent are those of each way.
    pub(crate) async fn start_relay(&self, pairing: Pairing, delay: u64, loss: f64) -> (Process, SocketAddr) {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, RELAY));
        let peer = self.peer.to_string_lossy();
        let target = pairing.endpoint();
        let arguments = format!("relay --listen {listen} --target {target} --delay {delay} --loss {loss}");
        let line = self.client.enter(&peer, &words(&arguments));
        let relay = Process::start_program("relay", self.folder.path(), netns::program(), &line);
        let sockets = format!("/proc/{}/net/udp", relay.pid());
        eventually("the relay listens", async || {
            let open = std::fs::read_to_string(&sockets).unwrap_or_default();
            open.contains(&format!(":{RELAY:04X} "))
                .then_some(())
                .ok_or("not yet")
        })
        .await;
        (relay, listen)
    }

    /// When the server's wireguard-go last shook hands with the client that runs beside; seconds of the epoch.
    pub(crate) fn last_handshake_beside(&self) -> anyhow::Result<u64> {
        let said = wg(&["show", &self.server_tunnel_name, "latest-handshakes"])?;
        let line = said
            .lines()
            .find(|line| line.starts_with(&self.keys.beside.public));
        let time = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(time.context("wireguard-go does not know the client")?.parse()?)
    }

    fn set_endpoint(&self, endpoint: SocketAddr) -> anyhow::Result<()> {
        let (peer, endpoint) = (&self.keys.server.public, endpoint.to_string());
        wg(&["set", &self.tunnel_name, "peer", peer, "endpoint", &endpoint])?;
        Ok(())
    }

    fn arguments(&self, trial: &Trial) -> String {
        let Trial {
            pairing,
            load,
            connections,
            seconds,
            warm_up,
            pace,
            endpoint,
        } = trial;
        let (own, peer) = match pairing {
            Pairing::OursToKernel => (&self.keys.ours, &self.keys.server),
            Pairing::OursBeside => (&self.keys.beside, &self.keys.server),
            Pairing::Ours => (&self.keys.ours, &self.keys.our_server),
            Pairing::Kernel => (&self.keys.client, &self.keys.server),
        };
        let tunnel = if *pairing == Pairing::Kernel {
            format!("--congestion {CONGESTION} --beside {}", self.wireguard_go.pid())
        } else {
            format!(
                "--key {} --peer-key {} --address {} --peer-address {} --mtu {} --endpoint {}",
                own.private,
                peer.public,
                pairing.address(),
                pairing.server(),
                self.mtu,
                endpoint.unwrap_or(pairing.endpoint()),
            )
        };
        format!(
            "measure --to {}:{LOADS} --counter {} --load {load} --connections {connections} \
             --seconds {seconds} --warm-up {warm_up} --pace {} {tunnel}",
            pairing.server(),
            pairing.counter(),
            pace.as_millis(),
        )
    }
}

impl Pairing {
    /// The client's address inside the tunnel.
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Kernel => CLIENT_KERNEL,
            Self::OursToKernel => Ipv4Addr::new(10, 92, 0, 3),
            Self::OursBeside => Ipv4Addr::new(10, 92, 0, 4),
            Self::Ours => Ipv4Addr::new(10, 93, 0, 3),
        }
    }

    fn server(self) -> Ipv4Addr {
        match self {
            Self::Ours => SERVER_OURS,
            Self::Kernel | Self::OursToKernel | Self::OursBeside => SERVER_KERNEL,
        }
    }

    /// The server's end of the tunnel.
    fn endpoint(self) -> SocketAddr {
        let port = match self {
            Self::Ours => OUR_TUNNEL,
            Self::Kernel | Self::OursToKernel | Self::OursBeside => KERNEL_TUNNEL,
        };
        (SERVER_WIRE, port).into()
    }

    fn counter(self) -> SocketAddr {
        let port = match self {
            Self::Ours => OUR_COUNTER,
            Self::Kernel | Self::OursToKernel | Self::OursBeside => KERNEL_COUNTER,
        };
        (SERVER_WIRE, port).into()
    }
}

impl Trial {
    /// A transfer, `down` or `up`.
    pub(crate) fn transfer(pairing: Pairing, load: &'static str, connections: usize, seconds: f64) -> Self {
        Self {
            pairing,
            load,
            connections,
            seconds,
            warm_up: 0.5,
            pace: Duration::ZERO,
            endpoint: None,
        }
    }

    /// Small requests, as many at a time as there are connections.
    pub(crate) fn requests(pairing: Pairing, connections: usize, seconds: f64) -> Self {
        Self::transfer(pairing, "requests", connections, seconds)
    }
}

/// Gives a wireguard-go its key, and its peers with their addresses inside the tunnel.
fn configure(name: &str, own: &Pair, peers: &[(&Pair, Ipv4Addr)]) -> anyhow::Result<()> {
    let port = KERNEL_TUNNEL.to_string();
    wg(&[
        "set",
        name,
        "listen-port",
        &port,
        "private-key",
        &own.file.to_string_lossy(),
    ])?;
    for (peer, address) in peers {
        wg(&[
            "set",
            name,
            "peer",
            &peer.public,
            "allowed-ips",
            &format!("{address}/32"),
        ])?;
    }
    Ok(())
}

fn wg(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("wg").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "wg {}: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program_of(variable: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os(variable)
        .with_context(|| format!("{variable} is not set; scripts/bench builds the program and sets it"))?;
    Ok(path.into())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
