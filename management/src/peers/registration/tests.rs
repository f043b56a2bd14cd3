use meshgate_proto::WgPrivateKey;

use crate::error::UseCaseError;
use crate::test_support::World;

#[tokio::test]
async fn the_peer_of_a_proxy_is_registered_once_and_in_no_group() {
    let world = World::new().await;
    let account = world.account().await;
    let key = WgPrivateKey::generate().public();
    let register = || world.register_proxy(&account, key, "c");

    let first = register().await.unwrap();
    let second = register().await.unwrap();

    assert_eq!(first, second);
    let store = &world.state.store;
    let row = store.peer(&account.scope, &first).await.unwrap().unwrap();
    assert!(row.proxy_embedded && row.ephemeral && row.ipv6.is_some());
    assert_eq!(row.proxy_cluster, "c");
    let [_, _, third, fourth] = row.ip.octets();
    assert_eq!(row.dns_label, format!("{}-{third}-{fourth}", row.name));
    assert!(row.name.starts_with("proxy-"));
    assert!(
        store
            .groups_of_peer(&account.scope, &first)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_proxy_that_changes_its_cluster_keeps_its_peer() {
    let world = World::new().await;
    let account = world.account().await;
    let key = WgPrivateKey::generate().public();
    let register = |cluster| world.register_proxy(&account, key, cluster);

    let before = register("c").await.unwrap();
    let after = register("d").await.unwrap();

    let row = world
        .state
        .store
        .peer(&account.scope, &after)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(row.proxy_cluster, "d");
}

#[tokio::test]
async fn the_key_of_another_peer_is_a_conflict() {
    let world = World::new().await;
    let (account, other) = (world.account().await, world.account().await);
    let machine = world.peer(&account, "a", 2).await;
    let machine = world
        .state
        .store
        .peer(&account.scope, &machine)
        .await
        .unwrap()
        .unwrap();
    let proxy = WgPrivateKey::generate().public();
    world.register_proxy(&other, proxy, "c").await.unwrap();

    for key in [machine.key, proxy] {
        let refused = world.register_proxy(&account, key, "c").await;

        assert!(matches!(refused, Err(UseCaseError::Conflict(_))));
    }
}

#[tokio::test]
async fn a_full_network_lets_nobody_in_but_stays_whole() {
    let world = World::new().await;
    let account = world.account().await;
    let mut tx = world.state.store.begin().await.unwrap();
    sqlx::query("UPDATE accounts SET network_v4 = '100.64.0.0/30'")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let register = || {
        let key = WgPrivateKey::generate().public();
        world.register_proxy(&account, key, "c")
    };

    register().await.unwrap();
    let refused = register().await;

    assert!(matches!(refused, Err(UseCaseError::Precondition(_))));
    assert_eq!(world.state.store.peers(&account.scope).await.unwrap().len(), 1);
}
