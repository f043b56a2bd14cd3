use meshgate_mesh::{LinkState, PermanentFailure};
use meshgate_proto::DomainName;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::*;
use crate::upstream::UpstreamAddress;

/// A mesh client without a mesh: its status is set by hand, and every stream is in memory.
#[derive(Debug)]
pub(crate) struct HandTunnel {
    pub(crate) status: watch::Sender<MeshStatus>,
    streams: Mutex<Vec<DuplexStream>>,
    pub(crate) stopped: CancellationToken,
}

impl HandTunnel {
    pub(crate) fn become_ready(&self) {
        self.status.send_modify(|status| {
            let public = WgPrivateKey::from_bytes([1; 32]).public();
            status.management.state = LinkState::Up;
            status.signal.state = LinkState::Up;
            status.relay.state = LinkState::Up;
            status.map_serial = Some(1);
            status.info = Some(meshgate_mesh::MeshInfo {
                key: public,
                address: "100.64.0.2".parse().unwrap(),
                prefix: 16,
                address_v6: None,
                fqdn: "proxy.mesh".into(),
            });
        });
    }

    fn be_removed(&self) {
        self.status.send_modify(|status| {
            status.permanent = Some(PermanentFailure::Removed {
                management: "http://m:80".into(),
                reason: "deleted".into(),
            });
        });
    }
}

#[async_trait]
impl Tunnel for HandTunnel {
    async fn connect(&self, _: SocketAddr, _: Duration) -> Result<Box<dyn Io>, DialError> {
        let (ours, theirs) = tokio::io::duplex(64);
        self.streams.lock().push(theirs);
        Ok(Box::new(ours))
    }

    fn status(&self) -> watch::Receiver<MeshStatus> {
        self.status.subscribe()
    }

    fn peers(&self) -> Vec<PeerSummary> {
        Vec::new()
    }

    async fn stop(&self) {
        self.stopped.cancel();
    }
}

/// Hands every started client to the test.
#[derive(Debug)]
pub(crate) struct HandStarter(mpsc::Sender<Started>);

#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) key: WgPublicKey,
    pub(crate) tunnel: Arc<HandTunnel>,
}

impl HandStarter {
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Started>) {
        let (starts, started) = mpsc::channel(64);
        (Arc::new(Self(starts)), started)
    }
}

impl TunnelStarter for HandStarter {
    fn start(&self, key: WgPrivateKey) -> Result<Arc<dyn Tunnel>, String> {
        let tunnel = Arc::new(HandTunnel {
            status: watch::Sender::new(MeshStatus::default()),
            streams: Mutex::default(),
            stopped: CancellationToken::new(),
        });
        let started = Started {
            key: key.public(),
            tunnel: Arc::clone(&tunnel),
        };
        self.0.try_send(started).map_err(|error| error.to_string())?;
        Ok(tunnel)
    }
}

/// Takes each token once.
#[derive(Debug, Default)]
struct Office {
    used: Mutex<Vec<String>>,
    keys: Mutex<Vec<WgPublicKey>>,
}

#[async_trait]
impl Registrar for Office {
    async fn create_peer(
        &self,
        _: &AccountId,
        _: &ServiceId,
        token: &Secret<String>,
        key: WgPublicKey,
    ) -> Result<(), RegisterError> {
        let mut used = self.used.lock();
        if used.contains(token.expose()) {
            return Err(RegisterError::TokenUsed);
        }
        used.push(token.expose().clone());
        self.keys.lock().push(key);
        Ok(())
    }
}

#[derive(Debug)]
struct Observer(mpsc::Sender<TunnelState>);

impl TunnelObserver for Observer {
    fn tunnel_changed(&self, _: &AccountId, state: &TunnelState) {
        self.0.try_send(state.clone()).unwrap();
    }

    fn tunnel_closed(&self, _: &AccountId) {}
}

struct Bench {
    tunnels: Tunnels,
    started: mpsc::Receiver<Started>,
    states: mpsc::Receiver<TunnelState>,
    office: Arc<Office>,
    resync: Arc<Notify>,
    state_dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap())
    }

    fn in_directory(state_dir: tempfile::TempDir) -> Self {
        let (starter, started) = HandStarter::new();
        let (changes, states) = mpsc::channel(64);
        let office = Arc::new(Office::default());
        let resync = Arc::new(Notify::new());
        let tunnels = Tunnels::new(TunnelParts {
            registrar: Arc::<Office>::clone(&office),
            starter,
            observer: Arc::new(Observer(changes)),
            resync: Arc::clone(&resync),
            key_dir: state_dir.path().join("accounts"),
            max_dial: None,
            allow_direct: Arc::default(),
        });
        Self {
            tunnels,
            started,
            states,
            office,
            resync,
            state_dir,
        }
    }

    fn require(&self, service: &str, token: &str) {
        self.tunnels
            .require(&account(), &ServiceId::new(service), &Secret::from(token));
    }

    async fn dial(&self, to: &UpstreamAddress) -> Result<Box<dyn Io>, DialError> {
        self.tunnels
            .dialer(&account(), Network::Tunnel)
            .dial(to, Duration::from_secs(30))
            .await
    }

    async fn until(&mut self, wanted: TunnelState) {
        let changes = async { while self.states.recv().await.unwrap() != wanted {} };
        tokio::time::timeout(Duration::from_mins(10), changes)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_service_opens_the_tunnel_and_the_others_share_it() {
    let mut bench = Bench::new();

    bench.require("s1", "t1");
    bench.require("s2", "t2");
    let started = bench.started.recv().await.unwrap();
    started.tunnel.become_ready();
    bench.until(TunnelState::Ready).await;

    assert!(bench.dial(&address()).await.is_ok());
    assert!(bench.started.try_recv().is_err());
    assert_eq!(bench.tunnels.summaries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_its_key() {
    let mut first = Bench::new();
    first.require("s1", "t1");
    let key = first.started.recv().await.unwrap().key;
    first.tunnels.stop().await;

    let mut second = Bench::in_directory(first.state_dir);
    second.require("s1", "t2");

    assert_eq!(second.started.recv().await.unwrap().key, key);
    assert_eq!(*second.office.keys.lock(), [key]);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_tunnel_on_its_way_but_not_for_long() {
    let bench = Bench::new();

    let began = tokio::time::Instant::now();
    assert!(matches!(
        bench.dial(&address()).await,
        Err(DialError::PeerNotConnected)
    ));
    bench
        .tunnels
        .require(&account(), &ServiceId::new("s1"), &Secret::from(""));
    assert!(matches!(
        bench.dial(&address()).await,
        Err(DialError::PeerNotConnected)
    ));

    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn names_are_not_looked_up_in_the_tunnel() {
    let mut bench = Bench::new();
    bench.require("s1", "t1");
    bench.started.recv().await.unwrap();

    let name = UpstreamAddress::Name {
        host: DomainName::new("localhost").unwrap(),
        port: 80,
    };

    assert!(matches!(bench.dial(&name).await, Err(DialError::NoRoute)));
}

#[tokio::test]
async fn direct_targets_never_lead_to_this_machine_unless_allowed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let targets = [
        UpstreamAddress::Ip(listener.local_addr().unwrap()),
        UpstreamAddress::Name {
            host: DomainName::new("localhost").unwrap(),
            port,
        },
    ];
    let within = Duration::from_secs(5);
    let closed = HostDialer::new(None, Arc::default());
    let open = HostDialer::new(None, Arc::from(["127.0.0.0/8".parse().unwrap()]));

    for target in targets {
        assert!(matches!(
            closed.dial(&target, within).await,
            Err(DialError::NoRoute)
        ));
        assert!(open.dial(&target, within).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_peer_registers_again_with_a_fresh_token() {
    let mut bench = Bench::new();
    bench.require("s1", "t1");
    let first = bench.started.recv().await.unwrap();
    bench.require("s1", "t2");

    first.tunnel.be_removed();
    let second = bench.started.recv().await.unwrap();

    first.tunnel.stopped.cancelled().await;
    assert_eq!(second.key, first.key);
    assert_eq!(*bench.office.used.lock(), ["t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_token_a_new_snapshot_is_asked_for() {
    let mut bench = Bench::new();
    bench.require("s1", "t1");
    let first = bench.started.recv().await.unwrap();

    first.tunnel.be_removed();
    bench.resync.notified().await;
    assert!(bench.started.try_recv().is_err());
    bench.require("s1", "t2");

    assert!(bench.started.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_used_token_is_told_and_never_tried_again() {
    let mut bench = Bench::new();
    bench.office.used.lock().push("t1".into());

    bench.require("s1", "t1");
    let mut last = bench.states.recv().await.unwrap();
    while last == TunnelState::Opening {
        last = bench.states.recv().await.unwrap();
    }
    bench.resync.notified().await;
    bench.require("s1", "t2");

    assert!(matches!(last, TunnelState::Failed(reason) if reason.contains("one-time token")));
    assert!(bench.started.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_outlives_its_last_service_for_a_while() {
    let mut bench = Bench::new();
    bench.require("s1", "t1");
    let started = bench.started.recv().await.unwrap();

    bench.tunnels.release(&ServiceId::new("s1"));
    bench.require("s1", "t2");
    tokio::time::advance(LINGER * 2).await;
    assert!(!started.tunnel.stopped.is_cancelled());

    bench.tunnels.release(&ServiceId::new("s1"));
    started.tunnel.stopped.cancelled().await;
    assert!(bench.tunnels.summaries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_moves_leaves_the_tunnel_of_its_former_account() {
    let mut bench = Bench::new();
    bench.require("s1", "t1");
    let started = bench.started.recv().await.unwrap();

    let other = AccountId::new("a2");
    bench
        .tunnels
        .require(&other, &ServiceId::new("s1"), &Secret::from("t2"));

    started.tunnel.stopped.cancelled().await;
    while bench.tunnels.summaries().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.tunnels.summaries()[0].account, other);
}

fn account() -> AccountId {
    AccountId::new("a1")
}

fn address() -> UpstreamAddress {
    UpstreamAddress::Ip("100.64.0.1:80".parse().unwrap())
}
