use meshgate_proto::network_map::NetworkMap;
use meshgate_proto::pb::management as pb;
use meshgate_proto::{ServiceId, WgPrivateKey, Xid};
use prost::Message as _;

use super::*;
use crate::test_support::{TestAccount, World};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

#[tokio::test]
async fn a_service_connects_the_proxy_with_its_target() {
    let world = World::new().await;
    let account = world.account().await;
    let target = world.peer(&account, "target", 2).await;
    let maps = NetworkMaps::start(Arc::clone(&world.state));
    let proxy = proxy(&world, &account).await;
    let mut at_target = attach(&maps, &account, &target).await;
    let mut at_proxy = attach(&maps, &account, &proxy).await;
    assert!(next(&mut at_target).await.remote_peers.is_empty());
    assert!(next(&mut at_proxy).await.remote_peers.is_empty());

    let service = service(&world, &account, &target, 7777).await;
    let (seen_by_target, seen_by_proxy) = (next(&mut at_target).await, next(&mut at_proxy).await);
    remove(&world, &account, &service).await;
    let (after_at_target, after_at_proxy) = (next(&mut at_target).await, next(&mut at_proxy).await);

    assert_eq!(seen_by_target.remote_peers.len(), 1);
    assert_eq!(seen_by_proxy.remote_peers.len(), 1);
    assert_eq!(seen_by_target.serial, seen_by_proxy.serial);
    assert!(after_at_target.remote_peers.is_empty() && after_at_proxy.remote_peers.is_empty());
    assert!(after_at_proxy.serial > seen_by_proxy.serial);
    maps.shutdown().await;
}

#[tokio::test]
async fn a_proxy_that_leaves_the_cluster_leaves_the_target() {
    let world = World::new().await;
    let account = world.account().await;
    let target = world.peer(&account, "target", 2).await;
    let maps = NetworkMaps::start(Arc::clone(&world.state));
    let key = WgPrivateKey::generate().public();
    let register = |cluster| world.register_proxy(&account, key, cluster);
    register("proxy.test").await.unwrap();
    let mut at_target = attach(&maps, &account, &target).await;
    next(&mut at_target).await;

    service(&world, &account, &target, 7777).await;
    let before = next(&mut at_target).await;
    register("elsewhere.test").await.unwrap();
    let after = next(&mut at_target).await;

    assert_eq!(before.remote_peers.len(), 1);
    assert!(after.remote_peers.is_empty());
    maps.shutdown().await;
}

#[tokio::test]
async fn a_lagging_account_looks_at_everything_again() {
    let world = World::new().await;
    let account = world.account().await;
    let first = world.peer(&account, "a", 2).await;
    let maps = NetworkMaps::start(Arc::clone(&world.state));
    let mut updates = attach(&maps, &account, &first).await;
    next(&mut updates).await;

    world.peer(&account, "b", 3).await;
    maps.account(account.scope.account())
        .unwrap()
        .lagging
        .store(true, Ordering::Release);

    assert_eq!(next(&mut updates).await.remote_peers.len(), 1);
    maps.shutdown().await;
}

#[tokio::test]
async fn a_peer_of_another_account_is_unknown() {
    let world = World::new().await;
    let account = world.account().await;
    let maps = NetworkMaps::start(Arc::clone(&world.state));

    let refused = maps.attach(account.scope.account(), &PeerId::new("nobody")).await;

    assert!(matches!(refused, Err(AttachError::Unknown)));
    maps.shutdown().await;
    let late = maps.attach(account.scope.account(), &PeerId::new("nobody")).await;
    assert!(matches!(late, Err(AttachError::Unavailable)));
}

async fn attach(maps: &NetworkMaps, account: &TestAccount, peer: &PeerId) -> MapStream {
    maps.attach(account.scope.account(), peer).await.unwrap()
}

async fn next(stream: &mut MapStream) -> NetworkMap {
    let update = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("a map in time");
    let Some(PeerUpdate::Map(map)) = update else {
        panic!("{update:?}");
    };
    let message = pb::SyncResponse::decode(map).unwrap();
    message.network_map.unwrap().try_into().unwrap()
}

async fn proxy(world: &World, account: &TestAccount) -> PeerId {
    let key = WgPrivateKey::generate().public();
    world.register_proxy(account, key, "proxy.test").await.unwrap()
}

async fn service(world: &World, account: &TestAccount, target: &PeerId, port: i64) -> ServiceId {
    let id = ServiceId::new(Xid::generate(world.now()).to_string());
    let mut tx = world.state.store.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO services (id, account_id, name, domain, proxy_cluster, enabled, pass_host_header, \
         rewrite_redirects, created_at, status, session_private_key, session_public_key, mode) \
         VALUES ($1, $2, 's', 's.proxy.test', 'proxy.test', TRUE, FALSE, FALSE, 0, 'pending', '', '', 'http')",
    )
    .bind(id.as_str())
    .bind(account.scope.account().as_str())
    .execute(tx.conn())
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO targets (id, account_id, service_id, position, port, protocol, target_id, target_type, enabled) \
         VALUES ('t', $1, $2, 0, $3, 'http', $4, 'peer', TRUE)",
    )
    .bind(account.scope.account().as_str())
    .bind(id.as_str())
    .bind(port)
    .bind(target.as_str())
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    world.state.changes.publish(Change::Service {
        account: account.scope.account().clone(),
        service: id.clone(),
    });
    id
}

async fn remove(world: &World, account: &TestAccount, service: &ServiceId) {
    let mut tx = world.state.store.begin().await.unwrap();
    sqlx::query("DELETE FROM services WHERE id = $1")
        .bind(service.as_str())
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    world.state.changes.publish(Change::ServiceRemoved {
        account: account.scope.account().clone(),
        service: service.clone(),
        cluster: "proxy.test".to_owned(),
    });
}
