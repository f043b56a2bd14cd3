use meshgate_proto::{DomainName, Secret, ServiceStatus};

use super::input::{AuthInput, HeaderInput, OptionsInput, PasswordInput, TargetInput};
use super::*;
use crate::store::service_statuses::StatusReport;
use crate::test_support::{TestAccount, World};

const CLUSTER: &str = "proxy.test";

#[tokio::test]
async fn a_new_service_is_stored_and_told_after_the_commit() {
    let (world, account, peer) = world().await;
    let mut news = world.state.changes.subscribe();

    let made = create(&world.state, &account.actor(), http("web", &peer))
        .await
        .unwrap();

    let id = made.record.service.id.clone();
    assert_eq!(made.record.service.proxy_cluster, CLUSTER);
    assert_eq!(made.record.service.status, ServiceStatus::Pending);
    assert_eq!(made.host_of(&made.record.targets[0]), "100.64.0.7");
    assert_eq!(
        get(&world.state.store, &account.actor(), &id).await.unwrap(),
        made
    );
    let told = Change::Service {
        account: account.scope.account().clone(),
        service: id,
    };
    assert_eq!(news.try_recv().unwrap(), told);
}

#[tokio::test]
async fn secrets_and_keys_are_not_stored_in_the_clear() {
    let (world, account, peer) = world().await;
    let mut input = http("web", &peer);
    input.auth = Some(password("s3cret"));

    let made = create(&world.state, &account.actor(), input)
        .await
        .unwrap()
        .record
        .service;

    assert!(
        made.auth
            .password
            .unwrap()
            .hash
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
    );
    let key = world.state.at_rest.unseal(&made.session_private_key).unwrap();
    let key = crate::session::SessionKey::from_text(&key).unwrap();
    assert_eq!(key.public_text(), made.session_public_key);
}

#[tokio::test]
async fn sessions_end_with_the_secret_that_opened_them_and_only_then() {
    let (world, account, peer) = world().await;
    let actor = account.actor();
    let with = |auth| ServiceInput {
        auth: Some(auth),
        ..http("web", &peer)
    };
    let made = create(&world.state, &actor, with(password("s3cret")))
        .await
        .unwrap()
        .record
        .service;
    let key_after = async |input| {
        update(&world.state, &actor, &made.id, input)
            .await
            .unwrap()
            .record
            .service
            .session_public_key
    };

    let kept = key_after(with(password(""))).await;
    let repeated = key_after(with(password("s3cret"))).await;
    let changed = key_after(with(password("other"))).await;
    let removed = key_after(http("web", &peer)).await;

    assert_eq!(kept, made.session_public_key);
    assert_eq!(repeated, made.session_public_key);
    assert_ne!(changed, made.session_public_key);
    assert_ne!(removed, changed);
    let stored = world
        .state
        .store
        .service(actor.scope(), &made.id)
        .await
        .unwrap()
        .unwrap()
        .service;
    assert_eq!(stored.session_public_key, removed);
}

#[tokio::test]
async fn a_domain_is_taken_for_every_account_and_every_mode() {
    let (world, account, peer) = world().await;
    let other = world.account().await;
    let others_peer = world.peer(&other, "theirs", 9).await;
    create(&world.state, &account.actor(), http("web", &peer))
        .await
        .unwrap();
    let mut upper = http("web", others_peer.as_str());
    upper.domain = "WEB.proxy.test".to_owned();
    let mut tcp = tcp("web", &peer, 15_000);
    tcp.domain = "web.proxy.test".to_owned();

    for (actor, input) in [(other.actor(), upper), (account.actor(), tcp)] {
        let error = create(&world.state, &actor, input).await.unwrap_err();
        assert!(matches!(error, UseCaseError::Conflict(_)), "{error}");
    }
}

#[tokio::test]
async fn only_peers_of_the_account_can_be_targets() {
    let (world, account, _peer) = world().await;
    let other = world.account().await;
    let foreign = world.peer(&other, "theirs", 9).await;

    let error = create(&world.state, &account.actor(), http("web", foreign.as_str()))
        .await
        .unwrap_err();

    assert!(error.to_string().contains("not found"), "{error}");
    assert!(matches!(error, UseCaseError::Invalid(_)));
}

#[tokio::test]
async fn services_of_others_are_not_there() {
    let (world, account, peer) = world().await;
    let other = world.account().await;
    let made = create(&world.state, &account.actor(), http("web", &peer))
        .await
        .unwrap();
    let id = &made.record.service.id;
    let state = &world.state;

    let shown = get(&state.store, &other.actor(), id).await;
    let changed = update(state, &other.actor(), id, http("web", &peer)).await;
    let removed = delete(state, &other.actor(), id).await;

    assert!(matches!(shown, Err(UseCaseError::NotFound(_))));
    assert!(matches!(changed, Err(UseCaseError::NotFound(_))));
    assert!(matches!(removed, Err(UseCaseError::NotFound(_))));
    assert!(list(&state.store, &other.actor()).await.unwrap().is_empty());
    assert_eq!(list(&state.store, &account.actor()).await.unwrap(), [made]);
}

#[tokio::test]
async fn a_domain_without_a_connected_cluster_is_refused() {
    let (world, account, peer) = world().await;
    let mut input = http("web", &peer);
    input.domain = "x.unknown.test".to_owned();

    let error = create(&world.state, &account.actor(), input).await.unwrap_err();

    assert!(matches!(error, UseCaseError::Precondition(_)));
    assert!(error.to_string().contains(CLUSTER), "{error}");
}

#[tokio::test]
async fn a_service_survives_an_update_while_its_cluster_is_away() {
    let (world, account, peer) = world().await;
    let made = create(&world.state, &account.actor(), http("web", &peer))
        .await
        .unwrap();
    let id = &made.record.service.id;
    world.clock.advance(std::time::Duration::from_hours(1));

    let mut renamed = http("web", &peer);
    renamed.name = "other".to_owned();
    let kept = update(&world.state, &account.actor(), id, renamed).await.unwrap();
    let moved = update(&world.state, &account.actor(), id, http("web2", &peer)).await;

    assert_eq!(kept.record.service.proxy_cluster, CLUSTER);
    assert_eq!(kept.record.service.name, "other");
    assert!(matches!(moved, Err(UseCaseError::Precondition(_))));
}

#[tokio::test]
async fn moving_to_another_cluster_tells_both() {
    let (world, account, peer) = world().await;
    world.proxy("other.test", None).await;
    let made = create(&world.state, &account.actor(), http("web", &peer))
        .await
        .unwrap();
    let id = made.record.service.id;
    let mut news = world.state.changes.subscribe();
    let mut input = http("web", &peer);
    input.domain = "web.other.test".to_owned();

    update(&world.state, &account.actor(), &id, input).await.unwrap();

    let account = account.scope.account().clone();
    let removed = Change::ServiceRemoved {
        account: account.clone(),
        service: id.clone(),
        cluster: CLUSTER.to_owned(),
    };
    assert_eq!(news.try_recv().unwrap(), removed);
    assert_eq!(news.try_recv().unwrap(), Change::Service { account, service: id });
}

#[tokio::test]
async fn secrets_left_empty_stay_and_absent_schemes_go() {
    let (world, account, peer) = world().await;
    let mut input = http("web", &peer);
    input.auth = Some(AuthInput {
        header_auths: vec![header("X-Key", "k3y")],
        ..password("s3cret")
    });
    let made = create(&world.state, &account.actor(), input)
        .await
        .unwrap()
        .record
        .service;
    let mut keep = http("web", &peer);
    keep.auth = Some(AuthInput {
        header_auths: vec![header("x-key", "")],
        ..password("")
    });

    let kept = update(&world.state, &account.actor(), &made.id, keep)
        .await
        .unwrap();
    let gone = update(&world.state, &account.actor(), &made.id, http("web", &peer))
        .await
        .unwrap();

    let kept = kept.record.service.auth;
    assert_eq!(kept.password, made.auth.password);
    assert_eq!(kept.headers[0].hash, made.auth.headers[0].hash);
    assert_eq!(
        gone.record.service.auth,
        crate::store::service_records::ServiceAuth::default()
    );
}

#[tokio::test]
async fn an_enabled_scheme_needs_a_secret() {
    let (world, account, peer) = world().await;
    let empty_header = AuthInput {
        header_auths: vec![header("X-Key", "")],
        ..AuthInput::default()
    };

    for auth in [password(""), empty_header] {
        let mut input = http("web", &peer);
        input.auth = Some(auth);
        let error = create(&world.state, &account.actor(), input).await.unwrap_err();
        assert!(matches!(error, UseCaseError::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn ports_are_unique_per_cluster_and_mode() {
    let (world, account, peer) = world().await;
    let state = &world.state;
    let first = create(state, &account.actor(), tcp("a", &peer, 15_432))
        .await
        .unwrap();

    let taken = create(state, &account.actor(), tcp("b", &peer, 15_432)).await;
    let mut udp = tcp("c", &peer, 15_432);
    udp.mode = "udp".to_owned();
    create(state, &account.actor(), udp).await.unwrap();
    let chosen = create(state, &account.actor(), tcp("d", &peer, 0)).await.unwrap();
    let id = &first.record.service.id;
    let kept = update(state, &account.actor(), id, tcp("a", &peer, 0))
        .await
        .unwrap();

    assert!(matches!(taken, Err(UseCaseError::Conflict(_))));
    let chosen = chosen.record.service;
    assert!(state.config.proxy_ports.contains(&chosen.listen_port));
    assert!(chosen.port_auto_assigned);
    assert_eq!(kept.record.service.listen_port, 15_432);
    assert!(!kept.record.service.port_auto_assigned);
}

#[tokio::test]
async fn a_full_range_of_ports_is_said() {
    let (world, account, peer) = world().await;
    let mut tx = world.state.store.begin().await.unwrap();
    let none = ServiceId::new("");
    let mode = meshgate_proto::ServiceMode::Tcp;

    let first = ports::choose(&mut tx, CLUSTER, mode, 20_000..=20_000, &none)
        .await
        .unwrap();
    drop(tx);
    create(&world.state, &account.actor(), tcp("a", &peer, first.into()))
        .await
        .unwrap();
    let mut tx = world.state.store.begin().await.unwrap();
    let full = ports::choose(&mut tx, CLUSTER, mode, 20_000..=20_000, &none).await;

    assert_eq!(first, 20_000);
    assert!(matches!(full, Err(UseCaseError::Precondition(_))));
}

#[tokio::test]
async fn the_mode_of_a_service_and_a_terminated_one_stay() {
    let (world, account, peer) = world().await;
    let state = &world.state;
    let made = create(state, &account.actor(), http("web", &peer)).await.unwrap();
    let id = &made.record.service.id;

    let other_mode = update(state, &account.actor(), id, tcp("web", &peer, 15_000)).await;
    let mut tx = state.store.begin().await.unwrap();
    sqlx::query("UPDATE services SET terminated = TRUE")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let terminated = update(state, &account.actor(), id, http("web", &peer)).await;

    assert!(matches!(other_mode, Err(UseCaseError::Invalid(_))));
    assert!(matches!(terminated, Err(UseCaseError::Forbidden(_))));
}

#[tokio::test]
async fn a_peer_that_a_service_leads_to_stays() {
    let (world, account, peer) = world().await;
    let state = &world.state;
    let made = create(state, &account.actor(), http("web", &peer)).await.unwrap();
    let id = meshgate_proto::PeerId::new(peer);

    let held = crate::peers::delete(&state.store, &state.changes, &account.actor(), &id).await;
    delete(state, &account.actor(), &made.record.service.id)
        .await
        .unwrap();
    let free = crate::peers::delete(&state.store, &state.changes, &account.actor(), &id).await;

    assert!(matches!(held, Err(UseCaseError::Precondition(_))));
    assert!(free.is_ok());
}

#[tokio::test]
async fn a_deleted_service_frees_its_domain_and_takes_its_targets_along() {
    let (world, account, peer) = world().await;
    let state = &world.state;
    let made = create(state, &account.actor(), http("web", &peer)).await.unwrap();
    let id = made.record.service.id;
    let mut news = state.changes.subscribe();

    delete(state, &account.actor(), &id).await.unwrap();

    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM targets")
        .fetch_one(state.store.reader())
        .await
        .unwrap();
    assert_eq!(left, 0);
    assert!(matches!(news.try_recv().unwrap(), Change::ServiceRemoved { cluster, .. } if cluster == CLUSTER));
    create(state, &account.actor(), http("web", &peer)).await.unwrap();
}

#[tokio::test]
async fn pages_of_a_cluster_leave_out_what_is_not_served() {
    let (world, account, peer) = world().await;
    let state = &world.state;
    for name in ["a", "b", "c"] {
        create(state, &account.actor(), http(name, &peer)).await.unwrap();
    }
    let mut disabled = http("d", &peer);
    disabled.enabled = false;
    create(state, &account.actor(), disabled).await.unwrap();
    let account_id = account.scope.account();
    let page = async |account, after: Option<&ServiceId>| {
        let store = &state.store;
        store
            .cluster_services_anywhere(CLUSTER, account, after, 2)
            .await
            .unwrap()
    };

    let first = page(Some(account_id), None).await;
    let last = page(None, Some(&first[1].service.id)).await;
    let stranger = meshgate_proto::AccountId::new("nobody");

    assert_eq!((first.len(), last.len()), (2, 1));
    assert_eq!(first[0].targets.len(), 1);
    assert!(page(Some(&stranger), None).await.is_empty());
}

#[tokio::test]
async fn the_status_of_a_service_is_kept_with_its_reason() {
    let (world, account, peer) = world().await;
    let store = &world.state.store;
    let made = create(&world.state, &account.actor(), http("web", &peer))
        .await
        .unwrap();
    let id = &made.record.service.id;
    let other = world.account().await;

    let status = ServiceStatus::CertificateFailed;
    let report = |account: &TestAccount, service: &ServiceId, message: &str| StatusReport {
        account: account.scope.account().clone(),
        service: service.clone(),
        status,
        message: message.to_owned(),
        certificate_issued_at: Some(world.now()),
    };
    let reports = [
        report(&account, id, "no reason"),
        report(&other, id, "foreign"),
        report(&account, &ServiceId::new("unknown"), ""),
        StatusReport {
            certificate_issued_at: None,
            ..report(&account, id, "no DNS")
        },
    ];
    let mut tx = store.begin().await.unwrap();
    let first = tx.set_service_statuses_anywhere(&reports[..1]).await.unwrap();
    let known = tx.set_service_statuses_anywhere(&reports).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!((first, known), (vec![true], vec![true, false, false, true]));
    let domain = DomainName::new("web.proxy.test").unwrap();
    let stored = store
        .service_by_domain_anywhere(&domain)
        .await
        .unwrap()
        .unwrap()
        .service;
    assert_eq!(
        (stored.status, stored.status_message.as_str()),
        (status, "no DNS")
    );
    assert_eq!(stored.certificate_issued_at, Some(world.now()));
}

async fn world() -> (World, TestAccount, String) {
    let world = World::new().await;
    let account = world.account().await;
    let peer = world.peer(&account, "peer1", 7).await;
    world.proxy(CLUSTER, None).await;
    (world, account, peer.into_string())
}

fn http(name: &str, peer: &str) -> ServiceInput {
    ServiceInput {
        name: name.to_owned(),
        domain: format!("{name}.{CLUSTER}"),
        enabled: true,
        targets: vec![TargetInput {
            target_id: peer.to_owned(),
            target_type: "peer".to_owned(),
            port: 8000,
            enabled: true,
            options: Some(OptionsInput::default()),
            ..TargetInput::default()
        }],
        ..ServiceInput::default()
    }
}

fn tcp(name: &str, peer: &str, port: i64) -> ServiceInput {
    ServiceInput {
        mode: "tcp".to_owned(),
        listen_port: port,
        ..http(name, peer)
    }
}

fn password(text: &str) -> AuthInput {
    AuthInput {
        password_auth: Some(PasswordInput {
            enabled: true,
            password: Secret::from(text),
        }),
        ..AuthInput::default()
    }
}

fn header(name: &str, value: &str) -> HeaderInput {
    HeaderInput {
        enabled: true,
        header: name.to_owned(),
        value: Secret::from(value),
    }
}
