use std::time::Duration;

use meshgate_proto::{UnixTime, WgPrivateKey};

use super::*;
use crate::test_support::{TestAccount, World};

#[tokio::test]
async fn another_account_sees_and_changes_nothing() {
    let world = World::new().await;
    let (ours, theirs) = (world.account().await, world.account().await);
    let id = world.peer(&ours, "a", 2).await;
    let store = &world.state.store;

    let seen = store.peer(&theirs.scope, &id).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let deleted = tx.delete_peer(&theirs.scope, &id).await.unwrap();
    let noted = tx.connect_peer(&theirs.scope, &id, &session(1)).await.unwrap();
    let taken = tx.dns_label_taken(&theirs.scope, "a").await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!(seen, None);
    assert!(!deleted && !noted && !taken);
    assert!(store.peer(&ours.scope, &id).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_inserted_is_read_back() {
    let world = World::new().await;
    let account = world.account().await;
    let row = row(&world, &account);
    let mut tx = world.state.store.begin().await.unwrap();
    tx.insert_peer(&row).await.unwrap();
    tx.commit().await.unwrap();

    let store = &world.state.store;
    assert_eq!(
        store.peer(&account.scope, &row.id).await.unwrap(),
        Some(row.clone())
    );
    assert_eq!(store.peer_by_key_anywhere(&row.key).await.unwrap(), Some(row));
}

#[tokio::test]
async fn keys_addresses_and_labels_are_unique() {
    let world = World::new().await;
    let account = world.account().await;
    let first = row(&world, &account);
    let mut tx = world.state.store.begin().await.unwrap();
    tx.insert_peer(&first).await.unwrap();
    tx.commit().await.unwrap();

    let fresh = || PeerRow {
        id: PeerId::new("other"),
        key: WgPrivateKey::generate().public(),
        ip: Ipv4Addr::new(100, 64, 0, 9),
        ipv6: None,
        dns_label: "other".to_owned(),
        ..first.clone()
    };
    for clash in [
        PeerRow {
            key: first.key,
            ..fresh()
        },
        PeerRow {
            ip: first.ip,
            ..fresh()
        },
        PeerRow {
            ipv6: first.ipv6,
            ..fresh()
        },
        PeerRow {
            dns_label: first.dns_label.clone(),
            ..fresh()
        },
    ] {
        let mut tx = world.state.store.begin().await.unwrap();

        let refused = tx.insert_peer(&clash).await.unwrap_err();

        assert!(matches!(refused, StoreError::Duplicate { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn an_older_stream_is_not_noted_over_a_newer_one() {
    let world = World::new().await;
    let account = world.account().await;
    let id = world.peer(&account, "a", 2).await;
    let mut tx = world.state.store.begin().await.unwrap();

    assert!(tx.connect_peer(&account.scope, &id, &session(2)).await.unwrap());
    assert!(!tx.connect_peer(&account.scope, &id, &session(1)).await.unwrap());
    assert!(
        !tx.disconnect_peer(&account.scope, &id, 1, UnixTime::EPOCH)
            .await
            .unwrap()
    );
    assert!(
        tx.disconnect_peer(&account.scope, &id, 2, UnixTime::EPOCH)
            .await
            .unwrap()
    );
}

fn session(number: i64) -> PeerSession {
    PeerSession {
        session: number,
        now: UnixTime::EPOCH,
        connection_ip: "127.0.0.1".to_owned(),
    }
}

fn row(world: &World, account: &TestAccount) -> PeerRow {
    let now = world.now();
    PeerRow {
        id: PeerId::new("peer"),
        account_id: account.scope.account().clone(),
        key: WgPrivateKey::generate().public(),
        ip: Ipv4Addr::new(100, 64, 0, 1),
        ipv6: Some("fd00::1".parse().unwrap()),
        meta: PeerMeta {
            hostname: "web".to_owned(),
            capabilities: vec![1, 2],
            ..PeerMeta::default()
        },
        proxy_embedded: true,
        proxy_cluster: "c".to_owned(),
        name: "web".to_owned(),
        dns_label: "web".to_owned(),
        connected: true,
        last_seen: now,
        session_started_at: 7,
        login_expired: true,
        requires_approval: true,
        user_id: Some(account.owner.clone()),
        ssh_key: "ssh-ed25519 AAAA".to_owned(),
        ssh_enabled: true,
        login_expiration_enabled: true,
        inactivity_expiration_enabled: true,
        last_login: Some(now.saturating_add(Duration::from_secs(1))),
        created_at: now,
        ephemeral: true,
        connection_ip: "192.0.2.1".to_owned(),
        country_code: "DE".to_owned(),
        city_name: "Berlin".to_owned(),
        geoname_id: 2_950_159,
        extra_dns_labels: vec!["db".to_owned()],
        allow_extra_dns_labels: true,
    }
}
