//! The control half against a server that speaks the real protocol.

mod scale;
pub(crate) mod server;
mod simulation;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use meshgate_certs::{CertResolver, CertStore};
use meshgate_mesh::ManagementUrl;
use meshgate_proto::pb::management as pb;
use meshgate_proto::{DomainName, MappingChange, ProxyCapabilities, ProxyHello, ProxyId, Secret, UnixTime};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::*;
use crate::access_log::{self, AccessLogSink, Stops};
use crate::health::Health;
use crate::login::{Authenticator as _, Credential, Shown};
use crate::routing::tests::mapping;
use crate::routing::{RouteState, RouteTable, Snapshot};
use crate::tunnels::tests::{HandStarter, Started};
use crate::tunnels::{TunnelParts, Tunnels};
use server::{Server, TOKEN};

/// The control half of a proxy with tunnels that lead nowhere.
struct Bench {
    snapshot: Arc<ArcSwap<Snapshot>>,
    health: Arc<Health>,
    started: mpsc::Receiver<Started>,
    contact: oneshot::Receiver<FirstContact>,
    resync: Arc<Notify>,
    _state: tempfile::TempDir,
    _stop: DropGuard,
}

impl Bench {
    fn start(address: SocketAddr) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = client(address);
        let state = tempfile::tempdir().unwrap();
        let (starter, started) = HandStarter::new();
        let reporter = Arc::new(Reporter::default());
        let resolver = Arc::new(CertResolver::new(Arc::new(CertStore::new())));
        let board = Arc::new(StatusBoard::new(Arc::clone(&reporter), resolver));
        let resync = Arc::new(Notify::new());
        let tunnels = Tunnels::new(TunnelParts {
            registrar: Arc::new(client.clone()),
            starter,
            observer: Arc::<StatusBoard>::clone(&board),
            resync: Arc::clone(&resync),
            key_dir: state.path().to_owned(),
            max_dial: None,
            allow_direct: Arc::default(),
        });
        let table = RouteTable::default();
        let snapshot = Arc::clone(table.shared());
        let health = Arc::new(Health::default());
        let mut control = Control {
            management: Arc::new(client.clone()),
            hello: hello(),
            applier: Applier::new(table, tunnels, board),
            health: Arc::clone(&health),
            resync: Arc::clone(&resync),
            state: SyncState::default(),
            rng: SmallRng::from_os_rng(),
        };
        let stop = CancellationToken::new();
        let (first, contact) = oneshot::channel();
        tokio::spawn(reporter.run(client, stop.clone()));
        let stopped = stop.clone();
        tokio::spawn(async move { control.run(first, stopped).await });
        Self {
            snapshot,
            health,
            started,
            contact,
            resync,
            _state: state,
            _stop: stop.drop_guard(),
        }
    }

    fn service(&self, host: &str) -> Option<String> {
        self.snapshot
            .load()
            .host(host)
            .map(|route| route.service_id.to_string())
    }
}

#[tokio::test]
async fn a_snapshot_is_applied_message_by_message_and_acknowledged() {
    let server = Server::start(vec![batch(&["s1", "s2"], false), batch(&["s3"], true)]).await;

    let mut bench = Bench::start(server.address);
    let seen = server.until(|seen| seen.acks == 2).await;

    assert!(matches!((&mut bench.contact).await, Ok(FirstContact::Connected)));
    for id in ["s1", "s2", "s3"] {
        assert_eq!(bench.service_of(id).as_deref(), Some(id));
    }
    assert!(bench.health.is_synced() && bench.health.is_connected());
    assert_eq!(seen.hellos[0], hello().into());
}

#[tokio::test]
async fn the_next_message_waits_until_the_last_is_applied() {
    let server = Server::start(vec![batch(&["s1"], false), batch(&["s2"], true)]).await;

    let bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;

    assert_eq!(bench.service_of("s1").as_deref(), Some("s1"));
    server.until(|seen| seen.acks == 2).await;
    assert_eq!(bench.service_of("s2").as_deref(), Some("s2"));
}

#[tokio::test]
async fn live_updates_add_change_and_remove() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    let bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;

    server.send(batch(&["s2"], false)).await;
    server.until(|seen| seen.acks == 2).await;
    assert_eq!(bench.service_of("s2").as_deref(), Some("s2"));

    server.send(removal("s1")).await;
    server.until(|seen| seen.acks == 3).await;
    assert_eq!(bench.service_of("s1"), None);
}

#[tokio::test]
async fn a_reconnect_with_the_same_configuration_changes_nothing() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    let mut bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;
    bench.started.recv().await.unwrap();
    let before = bench.snapshot.load_full();

    server.end_stream(Status::internal("restart")).await;
    server.until(|seen| seen.acks == 2).await;

    let after = bench.snapshot.load_full();
    assert!(Arc::ptr_eq(&before, &after));
    assert!(!after.host("s1.test").unwrap().closed.is_cancelled());
    assert!(bench.started.try_recv().is_err());
    assert_eq!(server.seen().peers.len(), 1);
}

#[tokio::test]
async fn a_reconnect_removes_what_went_meanwhile() {
    let server = Server::start(vec![batch(&["s1", "s2"], true)]).await;
    let bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;
    let old = Arc::clone(bench.snapshot.load().host("s2.test").unwrap());

    server.set_snapshot(vec![batch(&["s1"], true)]);
    server.end_stream(Status::unavailable("restart")).await;
    server.until(|seen| seen.acks == 2).await;

    assert_eq!(bench.service_of("s2"), None);
    assert!(old.closed.is_cancelled());
}

#[tokio::test]
async fn a_server_without_acknowledgements_is_understood() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    server.forget_sync();

    let mut bench = Bench::start(server.address);
    assert!(matches!((&mut bench.contact).await, Ok(FirstContact::Connected)));

    assert_eq!(server.seen().older_hellos, 1);
    assert_eq!(
        bench.snapshot.load().host("s1.test").unwrap().service_id.as_str(),
        "s1"
    );
}

#[tokio::test]
async fn a_bad_token_at_the_start_is_a_refusal() {
    let server = Server::start(Vec::new()).await;
    server.revoke_token();

    let bench = Bench::start(server.address);
    let Ok(FirstContact::Refused(error)) = bench.contact.await else {
        panic!("must be refused");
    };

    assert_eq!(
        error.to_string(),
        format!(
            "tried http://{}: Unauthenticated: token is invalid",
            server.address
        )
    );
}

#[tokio::test]
async fn a_token_revoked_later_is_tried_again_and_services_stay() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    let bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;

    server.revoke_token();
    server.end_stream(Status::cancelled("revoked")).await;
    eventually(|| !bench.health.is_connected()).await;

    assert_eq!(bench.service("s1.test").as_deref(), Some("s1"));
}

#[tokio::test]
async fn nobody_there_and_the_wrong_server_are_told_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let Ok(FirstContact::Unreachable(refused)) = Bench::start(address).contact.await else {
        panic!("must be unreachable");
    };
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(web, axum::Router::new()).await });
    let Ok(FirstContact::Unreachable(wrong)) = Bench::start(address).contact.await else {
        panic!("must be unreachable");
    };

    assert!(refused.to_string().contains("onnection refused"), "{refused}");
    assert!(
        wrong
            .to_string()
            .starts_with(&format!("tried http://{address}: ")),
        "{wrong}"
    );
    assert!(wrong.to_string().contains("404"), "{wrong}");
}

#[tokio::test]
async fn a_broken_mapping_spoils_only_its_own_service_and_is_reported() {
    let mut message = batch(&["s1", "s2", "s3"], true);
    message.mapping[0].mode = "teleport".into();
    message.mapping[1].path[0].target = "gopher://100.64.0.1/".into();
    let server = Server::start(vec![message]).await;

    let bench = Bench::start(server.address);
    let seen = server.until(|seen| seen.statuses.len() >= 2).await;

    let errors: Vec<_> = seen
        .statuses
        .iter()
        .map(|status| (status.service_id.as_str(), status.status))
        .collect();
    let error = i32::from(pb::ProxyStatus::Error);
    assert!(
        errors.contains(&("s1", error)) && errors.contains(&("s2", error)),
        "{errors:?}"
    );
    let snapshot = bench.snapshot.load();
    for broken in ["s1.test", "s2.test"] {
        let state = &snapshot.host(broken).unwrap().state;
        assert!(matches!(state, RouteState::Unavailable(_)), "{broken}: {state:?}");
    }
    assert_eq!(snapshot.host("s3.test").unwrap().state, RouteState::Ready);
}

#[tokio::test]
async fn ports_below_http_are_reported_and_never_served() {
    let mut message = batch(&["s1"], true);
    message.mapping[0].mode = "tcp".into();
    message.mapping[0].listen_port = 5432;
    message.mapping[0].path[0].target = "100.64.0.1:5432".into();
    let server = Server::start(vec![message]).await;

    let bench = Bench::start(server.address);
    let seen = server.until(|seen| !seen.statuses.is_empty()).await;

    assert_eq!(
        seen.statuses[0].error_message.as_deref(),
        Some("tcp services are not supported yet")
    );
    assert_eq!(bench.service_of("s1"), None);
    server.until(|seen| seen.acks == 1).await;
    server.end_stream(Status::internal("restart")).await;
    server.until(|seen| seen.acks == 2).await;
    server.send(batch(&["s2"], false)).await;
    let seen = server.until(|seen| !seen.peers.is_empty()).await;
    assert_eq!(seen.peers[0].service_id, "s2");
}

#[tokio::test]
async fn reports_are_sent_again_until_they_arrive() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    server.fail_statuses(Some(Status::unavailable("busy")));
    let mut bench = Bench::start(server.address);
    let started = bench.started.recv().await.unwrap();

    started.tunnel.become_ready();
    server.until(|seen| seen.acks == 1).await;
    server.fail_statuses(None);
    let seen = server.until(|seen| !seen.statuses.is_empty()).await;

    assert_eq!(
        seen.statuses[0].status,
        i32::from(pb::ProxyStatus::CertificateFailed)
    );
}

#[tokio::test]
async fn the_tunnel_is_registered_with_the_token_of_the_mapping() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    let mut bench = Bench::start(server.address);

    let started = bench.started.recv().await.unwrap();
    let seen = server.until(|seen| !seen.peers.is_empty()).await;

    let request = &seen.peers[0];
    assert_eq!(
        (request.service_id.as_str(), request.account_id.as_str()),
        ("s1", "a1")
    );
    assert_eq!(
        (request.token.as_str(), request.cluster.as_str()),
        ("token", "proxy.test")
    );
    assert_eq!(request.wireguard_public_key, started.key.to_string());
}

#[tokio::test]
async fn a_wanted_snapshot_comes_with_a_new_stream() {
    let server = Server::start(vec![batch(&["s1"], true)]).await;
    let bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;

    bench.resync.notify_one();

    server
        .until(|seen| seen.hellos.len() == 2 && seen.acks == 2)
        .await;
}

#[tokio::test]
async fn an_empty_snapshot_makes_unknown_hosts_known_to_be_unknown() {
    let server = Server::start(vec![batch(&[], true)]).await;

    let bench = Bench::start(server.address);
    server.until(|seen| seen.acks == 1).await;

    assert_eq!(bench.snapshot.load().revision(), 1);
}

#[tokio::test]
async fn access_log_lines_arrive_and_the_last_ones_at_the_end() {
    let server = Server::start(Vec::new()).await;
    let (sink, lines) = AccessLogSink::new();
    let (tasks, stops) = (TaskTracker::new(), Stops::default());
    access_log::send(lines, &client(server.address), &sink, &tasks, &stops);

    for number in 0..200 {
        sink.push(line(number));
    }
    stops.soft.cancel();
    tasks.close();
    tasks.wait().await;

    let seen = server.seen();
    assert_eq!((seen.lines.len(), seen.batches), (200, 1));
    assert_eq!(sink.dropped(), 0);
}

#[tokio::test]
async fn access_log_lines_go_one_by_one_to_a_server_that_knows_no_batches() {
    let server = Server::start(Vec::new()).await;
    server.forget_batches();
    let (sink, lines) = AccessLogSink::new();
    let (tasks, stops) = (TaskTracker::new(), Stops::default());
    access_log::send(lines, &client(server.address), &sink, &tasks, &stops);

    for number in 0..600 {
        sink.push(line(number));
    }
    server.until(|seen| seen.lines.len() == 600).await;
    stops.soft.cancel();
    tasks.close();
    tasks.wait().await;

    assert_eq!((server.seen().batches, sink.dropped()), (0, 0));
}

#[tokio::test]
async fn long_access_log_lines_are_sent_in_messages_that_management_takes() {
    let server = Server::start(Vec::new()).await;
    let (sink, lines) = AccessLogSink::new();
    let (tasks, stops) = (TaskTracker::new(), Stops::default());
    access_log::send(lines, &client(server.address), &sink, &tasks, &stops);

    for number in 0..100 {
        sink.push(meshgate_proto::AccessLog {
            path: "/x".repeat(8 * 1024),
            ..line(number)
        });
    }
    stops.soft.cancel();
    tasks.close();
    tasks.wait().await;

    let seen = server.seen();
    assert_eq!((seen.lines.len(), sink.dropped()), (100, 0));
    assert!(seen.batches >= 4, "{} messages", seen.batches);
}

#[tokio::test]
async fn access_log_lines_never_wait_and_are_counted_when_lost() {
    let (sink, _lines) = AccessLogSink::new();

    for _ in 0..access_log::QUEUE + 904 {
        sink.push(line(1));
    }

    assert_eq!(sink.dropped(), 904);
}

#[tokio::test]
async fn secrets_are_checked_by_management() {
    let server = Server::start(Vec::new()).await;
    let client = client(server.address);
    let check = async |pin: &str| {
        let mapping = mapping("s1", "s1.test");
        client
            .authenticate(
                &mapping.id,
                &mapping.account_id,
                Credential {
                    client_ip: "192.0.2.7".parse().unwrap(),
                    shown: Shown::Pin(Secret::from(pin)),
                },
            )
            .await
    };

    assert_eq!(check("1234").await.unwrap().unwrap().expose(), "a.b.c");
    assert!(check("0000").await.unwrap().is_none());
    assert_eq!(server.seen().clients, ["192.0.2.7", "192.0.2.7"]);
    server.revoke_token();
    assert!(check("1234").await.is_err());
}

impl Bench {
    fn service_of(&self, id: &str) -> Option<String> {
        self.service(&format!("{id}.test"))
    }
}

fn client(address: SocketAddr) -> ManagementClient {
    let management: ManagementUrl = address.to_string().parse().unwrap();
    ManagementClient::new(&ClientSettings {
        management: &management,
        root_ca: None,
        token: &Secret::from(TOKEN),
        cluster: &DomainName::new("proxy.test").unwrap(),
    })
    .unwrap()
}

fn hello() -> ProxyHello {
    ProxyHello {
        proxy_id: ProxyId::new("p1"),
        version: "0.1.0".into(),
        started_at: UnixTime::from_secs(1_800_000_000),
        address: "proxy.test".into(),
        capabilities: Some(ProxyCapabilities {
            custom_ports: Some(false),
            ..ProxyCapabilities::default()
        }),
    }
}

fn batch(ids: &[&str], complete: bool) -> pb::SyncMappingsResponse {
    let mapping = ids
        .iter()
        .map(|id| MappingChange::Created(Box::new(mapping(id, &format!("{id}.test")))).into());
    pb::SyncMappingsResponse {
        mapping: mapping.collect(),
        initial_sync_complete: complete,
    }
}

fn removal(id: &str) -> pb::SyncMappingsResponse {
    let mapping = pb::ProxyMapping {
        r#type: pb::ProxyMappingUpdateType::UpdateTypeRemoved.into(),
        id: id.to_owned(),
        domain: "already.elsewhere.test".into(),
        ..pb::ProxyMapping::default()
    };
    pb::SyncMappingsResponse {
        mapping: vec![mapping],
        initial_sync_complete: false,
    }
}

fn line(number: u64) -> meshgate_proto::AccessLog {
    meshgate_proto::AccessLog {
        timestamp: UnixTime::from_secs(1_800_000_000),
        id: meshgate_proto::AccessLogId::new(format!("l{number}")),
        account_id: meshgate_proto::AccountId::new("a1"),
        service_id: meshgate_proto::ServiceId::new("s1"),
        host: "s1.test".into(),
        path: "/".into(),
        duration: Duration::from_millis(1),
        method: "GET".into(),
        response_code: 200,
        source_ip: None,
        auth_mechanism: String::new(),
        user_id: meshgate_proto::UserId::new(""),
        auth_success: true,
        bytes_upload: 0,
        bytes_download: 0,
        protocol: "http".into(),
        metadata: std::collections::BTreeMap::new(),
        agent_network: false,
    }
}

/// Looks again and again until it is so.
async fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "did not come true in time"
        );
        ticks.tick().await;
    }
}
