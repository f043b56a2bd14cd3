//! Coming in: keys, refusals, maps.

use std::net::SocketAddr;
use std::time::Duration;

use meshgate_mesh::{ConnectError, Inbound, LinkState, Mesh, NotReady, PeerPath, PermanentFailure};
use meshgate_proto::pb::management as pb;
use meshgate_proto::{Secret, WgPrivateKey};
use tonic::Code;

use crate::relay::Hub;
use crate::world::{SETUP_KEY, SOON, World, dial, echo, until, until_known};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_join_with_a_setup_key_and_meet_through_the_relay() {
    let world = World::start();
    let agent = world.join_echo(world.config("agent")).await;
    let proxy = world.join(world.config("proxy")).await;

    let mut stream = dial(&proxy, &agent).await;
    echo(&mut stream).await.unwrap();

    let peers = proxy.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].fqdn, "agent.mesh.test");
    assert_eq!(peers[0].path, PeerPath::Relay);
    assert!(peers[0].connected && peers[0].rx > 0 && peers[0].tx > 0);
    assert!(peers[0].last_handshake_age.unwrap() < SOON);
    assert_eq!(
        proxy.peer_at(agent.overlay_ip().unwrap().into()).unwrap().key,
        agent.public_key()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_can_dial_first() {
    let world = World::start();
    let one = world.join_echo(world.config("one")).await;
    let two = world.join_echo(world.config("two")).await;

    let (there, back) = tokio::join!(dial(&one, &two), dial(&two, &one));

    assert_eq!(there.peer_addr().ip(), back.local_addr().ip());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_the_setup_key_only_after_a_refusal_without_and_in_lower_case() {
    let world = World::start();
    let config = world.config("agent");

    world.join(config.clone()).await.stop().await;
    world.join(config).await;

    assert_eq!(
        world.office.logins(),
        [None, Some(SETUP_KEY.to_lowercase()), None]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_key_needs_no_setup_key() {
    let world = World::start();
    let mut config = world.config("proxy");
    config.setup_key = None;
    world.office.register(config.private_key.public(), "proxy");

    let mesh = world.join(config).await;

    assert_eq!(mesh.status().info.unwrap().fqdn, "proxy.mesh.test");
    assert_eq!(world.office.logins(), [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_setup_key_is_told_at_once_and_never_shown_again() {
    for code in [Code::InvalidArgument, Code::NotFound, Code::PermissionDenied] {
        let world = World::start();
        world.office.refuse(code, "setup key is not valid any more");

        let mesh = Mesh::start(world.config("agent")).unwrap();
        let error = mesh.ready(SOON).await.unwrap_err();

        assert!(
            matches!(
                error,
                NotReady::Permanent(PermanentFailure::SetupKeyRefused { .. })
            ),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .ends_with("refused the setup key: setup key is not valid any more"),
            "{error}"
        );
        assert_eq!(world.office.logins().len(), 2);
        let address = SocketAddr::from(([100, 64, 0, 1], 80));
        assert_eq!(
            mesh.connect(address, SOON).await.unwrap_err(),
            ConnectError::Closed
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_race_for_a_setup_key_is_tried_again_a_few_times() {
    let world = World::start();
    world.office.refuse(Code::FailedPrecondition, "key was used up");

    let mesh = Mesh::start(world.config("agent")).unwrap();
    let error = mesh.ready(SOON).await.unwrap_err();

    assert!(
        matches!(
            error,
            NotReady::Permanent(PermanentFailure::SetupKeyRefused { .. })
        ),
        "{error}"
    );
    assert_eq!(world.office.logins().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_without_a_setup_key_is_not_admitted() {
    let world = World::start();
    let mut config = world.config("agent");
    config.setup_key = None;

    let error = Mesh::start(config).unwrap().ready(SOON).await.unwrap_err();

    assert!(
        matches!(error, NotReady::Permanent(PermanentFailure::NotAdmitted { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_address_says_what_was_tried_and_what_answered() {
    let mut world = World::start();
    let config = world.config("agent");
    world.kill();

    let error = Mesh::start(config.clone())
        .unwrap()
        .ready(Duration::from_millis(500))
        .await
        .unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains(&format!(
            "management is not connected: tried {}",
            config.management
        )),
        "{text}"
    );
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_settings_are_refused_at_the_start() {
    let world = World::start();
    let mut no_name = world.config(" ");
    no_name.hostname = " ".to_owned();
    let mut bad_version = world.config("agent");
    bad_version.version = "development".to_owned();
    let mut bad_key = world.config("agent");
    bad_key.setup_key = Some(Secret::from("not-a-uuid"));

    for config in [no_name, bad_version, bad_key] {
        assert!(Mesh::start(config).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_nobody_fails_at_once() {
    let world = World::start();
    let mesh = world.join(world.config("agent")).await;

    let error = mesh
        .connect(SocketAddr::from(([100, 64, 9, 9], 80)), SOON)
        .await
        .unwrap_err();

    assert_eq!(error, ConnectError::NoPeer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_never_there_is_offline_as_soon_as_the_relay_was_asked() {
    let world = World::start();
    world.office.register(WgPrivateKey::generate().public(), "ghost");
    let mesh = world.join(world.config("proxy")).await;

    let started = std::time::Instant::now();
    let error = mesh
        .connect(SocketAddr::from(([100, 64, 0, 1], 80)), SOON)
        .await
        .unwrap_err();

    assert_eq!(error, ConnectError::PeerOffline);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_in_when_inbound_is_denied() {
    let world = World::start();
    let mut config = world.config("agent");
    config.inbound = Inbound::DenyAll;
    let agent = world.join_echo(config).await;
    let proxy = world.join(world.config("proxy")).await;
    until_known(&proxy, &agent).await;

    let address = SocketAddr::from((agent.overlay_ip().unwrap(), 7000));
    let result = proxy.connect(address, Duration::from_secs(2)).await;

    assert!(result.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_peer_stops_for_good() {
    let world = World::start();
    let agent = world.join(world.config("agent")).await;

    world.office.delete(&agent.public_key());

    until("the client gave up", || agent.status().permanent.is_some()).await;
    assert!(matches!(
        agent.status().permanent,
        Some(PermanentFailure::Removed { .. })
    ));
    assert_eq!(agent.status().relay.state, LinkState::Idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posture_checks_are_answered_with_the_state_of_their_files() {
    let world = World::start();
    let _agent = world.join(world.config("agent")).await;

    world.office.set_checks(&["/etc/passwd", "/nowhere"]);

    until("the files were told", || !world.office.metas().is_empty()).await;
    let files = &world.office.metas()[0].files;
    assert_eq!(files.len(), 2);
    assert!(files[0].exists && !files[1].exists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_relays_or_that_makes_no_sense_changes_nothing() {
    let world = World::start();
    let agent = world.join_echo(world.config("agent")).await;
    let proxy = world.join(world.config("proxy")).await;
    let mut stream = dial(&proxy, &agent).await;

    world.office.push(&pb::SyncResponse {
        netbird_config: Some(pb::NetbirdConfig::default()),
        ..Default::default()
    });
    world.office.push(&pb::SyncResponse {
        version: 1,
        ..Default::default()
    });
    until("the nonsense was told", || {
        !proxy.status().map_problems.is_empty()
    })
    .await;

    echo(&mut stream).await.unwrap();
    assert!(proxy.status().is_ready());
    assert_eq!(world.hub.tokens().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_token_is_used_at_the_next_relay_connection_and_heals_a_refused_one() {
    let mut world = World::start();
    let agent = world.join(world.config("agent")).await;
    let bad = Hub::token("another-secret", 3600);
    world.office.set_token(bad.clone());
    world.office.push_servers();
    world.kill_relay();
    world.revive_relay();
    until("the bad token was shown", || {
        world.hub.tokens().contains(&bad.to_bytes())
    })
    .await;
    assert!(!agent.status().relay.is_up());

    let good = Hub::token("relay-secret", 7200);
    world.office.set_token(good.clone());
    world.office.push_servers();

    agent.ready(SOON).await.unwrap();
    assert_eq!(world.hub.tokens().last(), Some(&good.to_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_peers_say_nothing_to_each_other() {
    let world = World::start();
    let one = world.join(world.config("one")).await;
    let two = world.join(world.config("two")).await;
    until_known(&one, &two).await;
    until_known(&two, &one).await;

    assert_eq!(world.exchange.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_server_that_does_not_register_us_is_named() {
    let world = World::start();
    world.exchange.register_nobody();

    let mesh = Mesh::start(world.config("agent")).unwrap();
    let error = mesh.ready(Duration::from_secs(2)).await.unwrap_err().to_string();

    assert!(error.starts_with("signal is not connected"), "{error}");
    assert!(error.ends_with("the server did not register us"), "{error}");
}
