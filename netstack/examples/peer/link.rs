//! How the two ends reach each other: our netstack, or ordinary sockets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use meshgate_netstack::{
    Buffers, Cidr, Config, FirewallRule, Inbound, ListenSpec, Netstack, Path, PeerConfig, Ports, PrivateKey,
    Protocol, PublicKey, TcpListener, Verdict,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// How long a connection may take to open.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Idle time after which an empty packet keeps the path open.
const KEEPALIVE: Duration = Duration::from_secs(25);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Our end of a tunnel. Without a key, ordinary sockets are used.
#[derive(Debug, Args)]
pub(crate) struct LinkArguments {
    /// Our private key.
    #[arg(long, requires_all = ["peer_key", "address", "peer_address"])]
    key: Option<PrivateKey>,
    /// The peer's public key.
    #[arg(long)]
    peer_key: Option<PublicKey>,
    /// Our address inside the tunnel.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The peer's address inside the tunnel.
    #[arg(long)]
    peer_address: Option<IpAddr>,
    /// Where our UDP socket binds.
    #[arg(long, default_value = "0.0.0.0:0")]
    bind: SocketAddr,
    /// The peer's UDP address; without one the peer speaks first.
    #[arg(long)]
    endpoint: Option<SocketAddr>,
    /// Largest inner packet, instead of the netstack's own choice.
    #[arg(long)]
    mtu: Option<u16>,
    /// KiB of each of a connection's buffers, instead of the netstack's own choice.
    #[arg(long)]
    buffer: Option<usize>,
    /// Congestion control of ordinary sockets.
    #[arg(long)]
    congestion: Option<String>,
}

/// A way to open and to take connections.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    Kernel { congestion: Option<String> },
    Tunnel(Netstack),
}

/// A connection of either kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Takes connections of either kind.
#[derive(Debug)]
pub(crate) enum Listener {
    Kernel(tokio::net::TcpListener),
    Tunnel(TcpListener),
}

impl Link {
    pub(crate) fn new(arguments: LinkArguments) -> anyhow::Result<Self> {
        let (Some(key), Some(peer), Some(address), Some(peer_address)) = (
            arguments.key,
            arguments.peer_key,
            arguments.address,
            arguments.peer_address,
        ) else {
            return Ok(Self::Kernel {
                congestion: arguments.congestion,
            });
        };
        let mut config = Config::new(key, vec![address]);
        config.udp_bind = Some(arguments.bind);
        config.inbound = Inbound::Firewall;
        if let Some(mtu) = arguments.mtu {
            config.mtu = mtu;
        }
        if let Some(kib) = arguments.buffer {
            config.buffers = Buffers {
                receive: kib << 10,
                transmit: kib << 10,
            };
        }
        let net = Netstack::start(config).context("the UDP socket cannot be bound")?;
        net.set_firewall(vec![FirewallRule {
            source: Cidr::host(peer_address),
            protocol: Protocol::All,
            ports: Ports::All,
            verdict: Verdict::Accept,
        }]);
        net.upsert_peer(PeerConfig {
            public_key: peer,
            preshared_key: None,
            allowed_ips: vec![Cidr::host(peer_address)],
            keepalive: Some(KEEPALIVE),
        });
        if let Some(endpoint) = arguments.endpoint {
            net.set_path(&peer, Path::Direct(endpoint));
            net.initiate(&peer);
        }
        Ok(Self::Tunnel(net))
    }

    pub(crate) async fn connect(&self, to: SocketAddr) -> anyhow::Result<Box<dyn Connection>> {
        match self {
            Self::Kernel { congestion } => {
                let connecting = socket(to, congestion.as_deref())?.connect(to);
                let stream = tokio::time::timeout(CONNECT_DEADLINE, connecting).await??;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Tunnel(net) => Ok(Box::new(net.connect(to, CONNECT_DEADLINE).await?)),
        }
    }

    pub(crate) fn listen(&self, at: SocketAddr) -> anyhow::Result<Listener> {
        match self {
            Self::Kernel { congestion } => {
                let socket = socket(at, congestion.as_deref())?;
                socket.set_reuseaddr(true)?;
                socket.bind(at)?;
                Ok(Listener::Kernel(socket.listen(BACKLOG)?))
            }
            Self::Tunnel(net) => Ok(Listener::Tunnel(net.listen(ListenSpec::Port(at.port()))?)),
        }
    }

    /// Says goodbye to the peer.
    pub(crate) async fn close(self) {
        if let Self::Tunnel(net) = self {
            net.shutdown().await;
        }
    }
}

impl Listener {
    pub(crate) async fn accept(&mut self) -> anyhow::Result<Box<dyn Connection>> {
        match self {
            Self::Kernel(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Tunnel(listener) => Ok(Box::new(listener.accept().await?.stream)),
        }
    }
}

/// An ordinary socket; what it listens for inherits its congestion control.
fn socket(address: SocketAddr, congestion: Option<&str>) -> anyhow::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(name) = congestion {
        let set = SockRef::from(&socket).set_tcp_congestion(name.as_bytes());
        set.with_context(|| format!("the kernel has no congestion control {name}"))?;
    }
    Ok(socket)
}
