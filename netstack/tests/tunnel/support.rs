//! Pairs of netstacks, joined over loopback or an in-memory relay.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meshgate_netstack::{
    Cidr, Config, FirewallRule, Inbound, ListenSpec, Netstack, Path, PeerConfig, Ports, PrivateKey, Protocol,
    PublicKey, RelaySink, RelayTransport, TcpListener, TcpStream, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) const A: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Side {
    pub(crate) net: Netstack,
    pub(crate) key: PublicKey,
    pub(crate) address: Ipv4Addr,
}

/// Two netstacks that know each other but have no path yet.
pub(crate) fn strangers() -> (Side, Side) {
    let (a, b) = (start(A, 1), start(B, 2));
    introduce(&a, &b);
    introduce(&b, &a);
    (a, b)
}

/// Two netstacks with direct paths.
pub(crate) fn neighbours() -> (Side, Side) {
    let (a, b) = strangers();
    a.net.set_path(&b.key, Path::Direct(endpoint(&b)));
    b.net.set_path(&a.key, Path::Direct(endpoint(&a)));
    (a, b)
}

/// Two netstacks that reach each other through a relay of `capacity` datagrams each way.
pub(crate) fn relayed(capacity: usize) -> (Side, Side) {
    let (a, b) = strangers();
    join(&a, &b, capacity);
    join(&b, &a, capacity);
    (a, b)
}

pub(crate) fn start(address: Ipv4Addr, key: u8) -> Side {
    let private = PrivateKey::from_bytes([key; 32]);
    let mut config = Config::new(private.clone(), vec![IpAddr::V4(address)]);
    config.udp_bind = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.inbound = Inbound::Firewall;
    let net = Netstack::start(config).unwrap();
    net.set_firewall(vec![allow_all()]);
    Side {
        net,
        key: private.public_key(),
        address,
    }
}

pub(crate) fn introduce(to: &Side, other: &Side) {
    to.net.upsert_peer(PeerConfig {
        public_key: other.key,
        preshared_key: None,
        allowed_ips: vec![Cidr::host(IpAddr::V4(other.address))],
        keepalive: Some(Duration::from_secs(25)),
    });
}

pub(crate) fn endpoint(side: &Side) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, side.net.udp_port().unwrap()))
}

pub(crate) fn at(side: &Side, port: u16) -> SocketAddr {
    SocketAddr::from((side.address, port))
}

pub(crate) fn allow_all() -> FirewallRule {
    FirewallRule {
        source: "0.0.0.0/0".parse().unwrap(),
        protocol: Protocol::All,
        ports: Ports::All,
        verdict: Verdict::Accept,
    }
}

/// Sends everything from `from` to `to` through a queue of its own, as a relay server would.
pub(crate) fn join(from: &Side, to: &Side, capacity: usize) -> Arc<MemoryRelay> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(capacity);
    let relay = Arc::new(MemoryRelay {
        sender,
        dead: AtomicBool::new(false),
    });
    let (net, back, origin) = (to.net.clone(), from.net.clone(), from.key);
    tokio::spawn(async move {
        while let Some(datagram) = receiver.recv().await {
            net.receive(&origin, datagram);
            back.relay_ready();
        }
    });
    let transport: Arc<dyn RelayTransport> = Arc::<MemoryRelay>::clone(&relay);
    from.net.set_path(&to.key, Path::Relay(RelaySink::new(transport)));
    relay
}

pub(crate) struct MemoryRelay {
    sender: mpsc::Sender<Bytes>,
    pub(crate) dead: AtomicBool,
}

impl RelayTransport for MemoryRelay {
    fn try_send(&self, datagram: &[u8]) -> bool {
        self.dead.load(Ordering::Relaxed) || self.sender.try_send(Bytes::copy_from_slice(datagram)).is_ok()
    }
}

/// Echoes every connection to a port.
pub(crate) fn echo(side: &Side, port: u16) {
    let listener = side.net.listen(ListenSpec::Port(port)).unwrap();
    serve(listener, |stream| async move {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    });
}

pub(crate) fn serve<F, R>(mut listener: TcpListener, handle: F)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(handle(incoming.stream));
        }
    });
}

pub(crate) async fn ask(side: &Side, to: SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut stream = side.net.connect(to, PATIENCE).await.unwrap();
    stream.write_all(question).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Bytes that differ everywhere, so that a lost or doubled piece shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("the test's patience ran out")
}
