//! Mapping streams.

use std::time::Duration;

use meshgate_proto::pb::management as pb;
use pb::ProxyMappingUpdateType::{UpdateTypeCreated, UpdateTypeModified, UpdateTypeRemoved};
use tonic::Code;

use super::harness::{PATIENCE, Plane, Proxy, domains, init};
use crate::changes::Change;
use crate::grpc::proxy_service::ProxySettings;
use crate::reconcile::mappings::PublisherSettings;
use crate::store::service_records::ServiceRow;

fn batches_of(batch: u32) -> ProxySettings {
    let publisher = PublisherSettings {
        batch,
        ..PublisherSettings::default()
    };
    ProxySettings {
        publisher,
        ..ProxySettings::default()
    }
}

#[tokio::test]
async fn an_empty_cluster_is_one_message_of_two_bytes() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;

    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let message = proxy.next().await;

    assert!(message.initial_sync_complete);
    assert!(message.mapping.is_empty());
    assert_eq!(prost::Message::encoded_len(&message), 2);
    assert!(proxy.is_silent().await);
}

#[tokio::test]
async fn the_next_batch_waits_for_the_acknowledgement() {
    let plane = Plane::start(batches_of(2)).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    for n in 0..5 {
        plane
            .store(&plane.service(&account, &format!("s{n}.proxy.test"), &peer))
            .await;
    }
    let token = plane.token(None).await;

    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;

    let first = proxy.receive().await;
    assert_eq!((first.mapping.len(), first.initial_sync_complete), (2, false));
    assert!(proxy.is_silent().await);
    proxy.ack().await;
    let second = proxy.receive().await;
    assert_eq!((second.mapping.len(), second.initial_sync_complete), (2, false));
    assert!(proxy.is_silent().await);
    proxy.ack().await;
    let third = proxy.receive().await;
    assert_eq!((third.mapping.len(), third.initial_sync_complete), (1, true));
    let all = [first.mapping, second.mapping, third.mapping].concat();
    assert_eq!(
        domains(&all),
        [
            "s0.proxy.test",
            "s1.proxy.test",
            "s2.proxy.test",
            "s3.proxy.test",
            "s4.proxy.test"
        ]
    );
    assert!(
        all.iter()
            .all(|mapping| mapping.path[0].target == "http://100.64.0.9:7777/")
    );
}

#[tokio::test]
async fn a_snapshot_that_ends_with_a_full_batch_is_still_completed() {
    let plane = Plane::start(batches_of(2)).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    for n in 0..2 {
        plane
            .store(&plane.service(&account, &format!("s{n}.proxy.test"), &peer))
            .await;
    }
    let token = plane.token(None).await;

    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;

    assert_eq!(proxy.snapshot().await.len(), 2);
}

#[tokio::test]
async fn every_change_of_a_service_is_one_step() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    assert!(proxy.snapshot().await.is_empty());
    let mut record = plane.service(&account, "a.proxy.test", &peer);

    plane.store(&record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeCreated, "a.proxy.test".to_owned())
    );

    record.service.pass_host_header = true;
    plane.change(&account, &record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeModified, "a.proxy.test".to_owned())
    );

    record.service.name = "renamed".to_owned();
    plane.change(&account, &record).await;
    assert!(proxy.is_silent().await);

    record.service.domain = "b.proxy.test".parse().unwrap();
    plane.change(&account, &record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeRemoved, "a.proxy.test".to_owned())
    );
    assert_eq!(
        proxy.change().await,
        (UpdateTypeCreated, "b.proxy.test".to_owned())
    );

    record.service.enabled = false;
    plane.change(&account, &record).await;
    let removed = proxy.next().await.mapping.remove(0);
    assert_eq!(
        (removed.r#type(), removed.id.as_str()),
        (UpdateTypeRemoved, record.service.id.as_str())
    );
    assert!(removed.auth_token.is_empty());
    record.service.pass_host_header = false;
    plane.change(&account, &record).await;
    assert!(proxy.is_silent().await);

    record.service.enabled = true;
    plane.change(&account, &record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeCreated, "b.proxy.test".to_owned())
    );

    record.service.proxy_cluster = "other.test".to_owned();
    plane.change(&account, &record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeRemoved, "b.proxy.test".to_owned())
    );
    record.service.proxy_cluster = "proxy.test".to_owned();
    plane.change(&account, &record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeCreated, "b.proxy.test".to_owned())
    );

    plane.delete(&account, &record).await;
    assert_eq!(
        proxy.change().await,
        (UpdateTypeRemoved, "b.proxy.test".to_owned())
    );
}

#[tokio::test]
async fn what_changes_at_once_goes_together() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    assert!(proxy.snapshot().await.is_empty());
    let mut tx = plane.world.state.store.begin().await.unwrap();
    let records: Vec<_> = (0..50)
        .map(|n| plane.service(&account, &format!("s{n}.proxy.test"), &peer))
        .collect();
    for record in &records {
        tx.insert_service(record).await.unwrap();
    }
    tx.commit().await.unwrap();

    for record in &records {
        plane.tell(record);
    }

    let (mut messages, mut created) = (0, 0);
    while created < records.len() {
        messages += 1;
        created += proxy.next().await.mapping.len();
    }
    assert!(messages < 10, "{messages} messages");
}

#[tokio::test]
async fn what_changes_during_the_snapshot_comes_after_it() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let record = plane.service(&account, "a.proxy.test", &peer);
    plane.store(&record).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let snapshot = proxy.receive().await;
    assert_eq!(domains(&snapshot.mapping), ["a.proxy.test"]);

    plane.delete(&account, &record).await;
    assert!(proxy.is_silent().await);
    proxy.ack().await;

    assert_eq!(
        proxy.change().await,
        (UpdateTypeRemoved, "a.proxy.test".to_owned())
    );
}

#[tokio::test]
async fn a_proxy_that_does_not_acknowledge_has_to_start_over() {
    let publisher = PublisherSettings {
        deferred: 3,
        ..PublisherSettings::default()
    };
    let plane = Plane::start(ProxySettings {
        publisher,
        ..ProxySettings::default()
    })
    .await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    proxy.receive().await;

    for n in 0..4 {
        let record = plane.service(&account, &format!("s{n}.proxy.test"), &peer);
        plane.store(&record).await;
    }

    assert_eq!(proxy.end().await.code(), Code::Aborted);
}

#[tokio::test]
async fn an_acknowledgement_is_not_awaited_for_ever() {
    let publisher = PublisherSettings {
        ack_timeout: Duration::from_millis(30),
        ..PublisherSettings::default()
    };
    let plane = Plane::start(ProxySettings {
        publisher,
        ..ProxySettings::default()
    })
    .await;
    let token = plane.token(None).await;

    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;

    assert_eq!(proxy.end().await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_peer_that_leaves_takes_its_paths_along() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let bystander = plane.world.peer(&account, "other", 10).await;
    plane.store(&plane.service(&account, "a.proxy.test", &peer)).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    proxy.snapshot().await;

    for peer in [&bystander, &peer] {
        let mut tx = plane.world.state.store.begin().await.unwrap();
        tx.delete_peer(&account.scope, peer).await.unwrap();
        tx.commit().await.unwrap();
        plane.world.state.changes.publish(Change::PeerRemoved {
            account: account.scope.account().clone(),
            peer: peer.clone(),
            key: meshgate_proto::WgPublicKey::from_bytes([1; 32]),
        });
    }

    let changed = proxy.next().await.mapping.remove(0);
    assert_eq!(changed.r#type(), UpdateTypeModified);
    assert!(changed.path.is_empty());
}

#[tokio::test]
async fn a_proxy_that_comes_back_gets_everything_with_fresh_tokens() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    plane.store(&plane.service(&account, "a.proxy.test", &peer)).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let before = proxy.snapshot().await;
    assert_eq!(plane.proxy_status("p").await.0, "connected");

    drop(proxy);
    let gone = async {
        while plane.proxy_status("p").await.0 != "disconnected" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let after = proxy.snapshot().await;

    assert_eq!(before.len(), 1);
    assert_ne!(before[0].auth_token, after[0].auth_token);
    assert_eq!(before[0].auth, after[0].auth);
    assert_eq!(plane.proxy_status("p").await.0, "connected");
}

#[tokio::test]
async fn a_second_stream_of_a_proxy_ends_the_first() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;
    let mut first = plane.sync(&token, init("p", "proxy.test")).await;
    first.snapshot().await;
    let (_, first_session) = plane.proxy_status("p").await;

    let mut second = plane.sync(&token, init("p", "proxy.test")).await;
    second.snapshot().await;

    assert_eq!(first.end().await.code(), Code::Cancelled);
    let (status, session) = plane.proxy_status("p").await;
    assert_eq!(status, "connected");
    assert_ne!(session, first_session);
    assert_eq!(plane.side.hub().len(), 1);
}

#[tokio::test]
async fn a_revoked_token_ends_the_stream() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    proxy.snapshot().await;

    plane.revoke(&token).await;
    plane.world.state.changes.publish(Change::ProxyTokenRevoked {
        token: token.id.clone(),
    });

    assert_eq!(proxy.end().await.code(), Code::Cancelled);
    let again = Proxy::connect(plane.client(&token.text), init("p", "proxy.test"))
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_heartbeat_finds_a_token_that_was_revoked_elsewhere() {
    let settings = ProxySettings {
        heartbeat: Duration::from_millis(30),
        ..ProxySettings::default()
    };
    let plane = Plane::start(settings).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    proxy.snapshot().await;
    let mut tx = plane.world.state.store.begin().await.unwrap();
    sqlx::query("DELETE FROM proxies")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let row_comes_back = async {
        let count = || sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM proxies");
        while count().fetch_one(plane.world.state.store.reader()).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, row_comes_back).await.unwrap();

    plane.revoke(&token).await;

    assert_eq!(proxy.end().await.code(), Code::Cancelled);
}

#[tokio::test]
async fn both_calls_send_the_same_snapshot() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    for n in 0..3 {
        plane
            .store(&plane.service(&account, &format!("s{n}.proxy.test"), &peer))
            .await;
    }
    let token = plane.token(None).await;
    let without_tokens = |mut mappings: Vec<pb::ProxyMapping>| {
        for mapping in &mut mappings {
            mapping.auth_token = mapping.auth_token.len().to_string();
        }
        mappings
    };
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let sync = without_tokens(proxy.snapshot().await);

    let pb::SyncMappingsInit {
        proxy_id: _,
        version,
        started_at,
        address,
        capabilities,
    } = init("q", "proxy.test");
    let request = pb::GetMappingUpdateRequest {
        proxy_id: "q".to_owned(),
        version,
        started_at,
        address,
        capabilities,
    };
    let mut stream = plane
        .client(&token.text)
        .get_mapping_update(request)
        .await
        .unwrap()
        .into_inner();
    let message = stream.message().await.unwrap().unwrap();
    assert!(message.initial_sync_complete);
    assert_eq!(without_tokens(message.mapping), sync);
    let record = plane.service(&account, "live.proxy.test", &peer);
    plane.store(&record).await;

    let live = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        live.mapping,
        [pb::ProxyMapping {
            auth_token: live.mapping[0].auth_token.clone(),
            ..proxy.next().await.mapping.remove(0)
        }]
    );
}

#[tokio::test]
async fn proxies_get_only_what_they_understand() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let mut private = plane.service(&account, "private.proxy.test", &peer);
    private.service.private = true;
    let mut tcp = plane.service(&account, "tcp.proxy.test", &peer);
    tcp.service = ServiceRow {
        mode: meshgate_proto::ServiceMode::Tcp,
        listen_port: 5432,
        ..tcp.service
    };
    plane.store(&private).await;
    plane.store(&tcp).await;
    plane
        .store(&plane.service(&account, "open.proxy.test", &peer))
        .await;
    let token = plane.token(None).await;
    let silent = pb::SyncMappingsInit {
        capabilities: None,
        ..init("silent", "proxy.test")
    };
    let ports = pb::ProxyCapabilities {
        supports_custom_ports: Some(false),
        ..pb::ProxyCapabilities::default()
    };
    let ports = pb::SyncMappingsInit {
        capabilities: Some(ports),
        ..init("ports", "proxy.test")
    };

    let silent = plane.sync(&token, silent).await.snapshot().await;
    let ports = plane.sync(&token, ports).await.snapshot().await;
    let all = plane
        .sync(&token, init("all", "PROXY.test."))
        .await
        .snapshot()
        .await;
    let elsewhere = plane
        .sync(&token, init("elsewhere", "other.test"))
        .await
        .snapshot()
        .await;

    assert_eq!(domains(&silent), ["open.proxy.test"]);
    assert_eq!(domains(&ports), ["open.proxy.test", "tcp.proxy.test"]);
    assert_eq!(
        domains(&all),
        ["open.proxy.test", "private.proxy.test", "tcp.proxy.test"]
    );
    assert!(elsewhere.is_empty());
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_the_side() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    proxy.snapshot().await;

    plane.shutdown.cancel();

    assert_eq!(proxy.end().await.code(), Code::Unavailable);
    tokio::time::timeout(PATIENCE, plane.running)
        .await
        .unwrap()
        .unwrap();
}
