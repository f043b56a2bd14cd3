use meshgate_proto::{AccountId, GroupId, PeerId, UserId};

use super::*;
use crate::actor::Scope;
use crate::store::personal_tokens::PersonalTokenRow;
use crate::store::proxy_tokens::ProxyTokenRow;
use crate::store::setup_keys::{SetupKeyKind, SetupKeyRow};
use crate::test_support::{TestAccount, World};

#[tokio::test]
async fn what_was_not_committed_never_happened() {
    let world = World::new().await;
    let account = world.account().await;
    let store = &world.state.store;

    let mut tx = store.begin().await.unwrap();
    tx.insert_setup_key(&key(&account, "one")).await.unwrap();
    drop(tx);

    assert!(store.setup_keys(&account.scope).await.unwrap().is_empty());
}

#[tokio::test]
async fn writes_again_after_the_disk_was_full() {
    let world = World::new().await;
    let account = world.account().await;
    let store = &world.state.store;
    let mut tx = store.begin().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(tx.conn())
        .await
        .unwrap();

    let mut large = key(&account, "large");
    large.name = "x".repeat(1_000_000);
    let full = tx.insert_setup_key(&large).await.unwrap_err();
    assert!(matches!(full, StoreError::Database(_)), "{full}");
    drop(tx);

    let mut tx = store.begin().await.unwrap();
    tx.insert_setup_key(&key(&account, "one")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.setup_keys(&account.scope).await.unwrap().len(), 1);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let world = World::new().await;
    let account = world.account().await;
    let store = &world.state.store;

    let mut tx = store.begin().await.unwrap();
    tx.insert_setup_key(&key(&account, "one")).await.unwrap();
    let before = store.setup_keys(&account.scope).await.unwrap();
    tx.commit().await.unwrap();
    let after = store.setup_keys(&account.scope).await.unwrap();

    assert_eq!((before.len(), after.len()), (0, 1));
}

#[tokio::test]
async fn hashes_are_unique_and_the_error_names_the_column() {
    let world = World::new().await;
    let account = world.account().await;
    let mut tx = world.state.store.begin().await.unwrap();
    tx.insert_setup_key(&key(&account, "one")).await.unwrap();
    tx.insert_proxy_token(&proxy_token("p1")).await.unwrap();
    tx.insert_personal_token(&personal_token(&account, "t1"))
        .await
        .unwrap();

    let mut same_key = key(&account, "two");
    same_key.hashed_key = "hash of one".to_owned();
    let mut same_proxy = proxy_token("p2");
    same_proxy.hashed_token = "hash of p1".to_owned();
    let mut same_personal = personal_token(&account, "t2");
    same_personal.hashed_token = "hash of t1".to_owned();
    let errors = [
        tx.insert_setup_key(&same_key).await.unwrap_err(),
        tx.insert_proxy_token(&same_proxy).await.unwrap_err(),
        tx.insert_personal_token(&same_personal).await.unwrap_err(),
    ];

    let columns = [
        "setup_keys.hashed_key",
        "proxy_access_tokens.hashed_token",
        "personal_access_tokens.hashed_token",
    ];
    for (error, column) in errors.into_iter().zip(columns) {
        assert!(
            matches!(&error, StoreError::Duplicate { constraint } if constraint == column),
            "{error}"
        );
    }
}

#[tokio::test]
async fn rows_belong_to_something_that_is_there() {
    let world = World::new().await;
    let account = world.account().await;
    let mut tx = world.state.store.begin().await.unwrap();
    let mut orphan = personal_token(&account, "t");
    orphan.user_id = UserId::new("nobody");
    let mut stray = proxy_token("p");
    stray.account_id = Some(AccountId::new("nowhere"));

    let member = tx
        .add_group_peer(&account.scope, &account.all, &PeerId::new("no-peer"))
        .await;
    let errors = [
        member.unwrap_err(),
        tx.insert_personal_token(&orphan).await.unwrap_err(),
        tx.insert_proxy_token(&stray).await.unwrap_err(),
    ];

    for error in errors {
        assert!(matches!(error, StoreError::Reference), "{error}");
    }
}

#[tokio::test]
async fn statements_stay_inside_their_scope() {
    let world = World::new().await;
    let (account, other) = (world.account().await, world.account().await);
    let store = &world.state.store;
    let peer = world.peer(&account, "peer1", 7).await;
    let mut tx = store.begin().await.unwrap();
    let token = personal_token(&account, "t");
    tx.insert_personal_token(&token).await.unwrap();

    let scope = &other.scope;
    assert!(!tx.delete_personal_token(scope, &token.id).await.unwrap());
    assert!(!tx.delete_peer(scope, &peer).await.unwrap());
    assert!(tx.peer(scope, &peer).await.unwrap().is_none());
    assert!(tx.group(scope, &account.all).await.unwrap().is_none());
    assert!(tx.service_using_peer(scope, &peer).await.unwrap().is_none());
    tx.commit().await.unwrap();

    assert!(store.user(scope, &account.owner).await.unwrap().is_none());
    assert!(
        store
            .personal_tokens(scope, &account.owner)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.groups_of_peer(scope, &peer).await.unwrap().is_empty());
    assert!(
        store
            .peers_of_group(scope, &account.all)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .named_peers_of_group(scope, &account.all)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store.groups_of_peer(&account.scope, &peer).await.unwrap(),
        std::slice::from_ref(&account.all)
    );
    assert_eq!(
        store.peers_of_group(&account.scope, &account.all).await.unwrap(),
        [peer]
    );
}

#[tokio::test]
async fn a_deleted_peer_leaves_its_groups() {
    let world = World::new().await;
    let account = world.account().await;
    let store = &world.state.store;
    let peer = world.peer(&account, "peer1", 7).await;

    let mut tx = store.begin().await.unwrap();
    assert!(tx.delete_peer(&account.scope, &peer).await.unwrap());
    assert!(!tx.delete_peer(&account.scope, &peer).await.unwrap());
    tx.commit().await.unwrap();

    assert!(store.group_peers(&account.scope).await.unwrap().is_empty());
    assert!(store.group_sizes(&account.scope).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_an_error_not_a_default() {
    let world = World::new().await;
    let account = world.account().await;
    let mut tx = world.state.store.begin().await.unwrap();
    sqlx::query("UPDATE users SET role = 'king'")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let error = world.state.store.users(&account.scope).await.unwrap_err();

    assert!(matches!(error, StoreError::Corrupt { column: "role" }), "{error}");
}

#[tokio::test]
async fn an_unknown_account_has_nothing() {
    let world = World::new().await;
    let nobody = Scope::authenticated(AccountId::new("nowhere"));
    let store = &world.state.store;

    assert!(store.account(&nobody).await.unwrap().is_none());
    assert!(store.groups(&nobody).await.unwrap().is_empty());
    assert!(store.group(&nobody, &GroupId::new("x")).await.unwrap().is_none());
    assert!(store.domains(&nobody).await.unwrap().is_empty());
    assert!(store.proxy_tokens(&nobody).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/store.db");

    let error = Store::open(&path).await.unwrap_err().to_string();

    assert!(error.contains("missing/store.db"), "{error}");
}

fn key(account: &TestAccount, name: &str) -> SetupKeyRow {
    SetupKeyRow {
        id: meshgate_proto::SetupKeyId::new(name),
        account_id: account.scope.account().clone(),
        hashed_key: format!("hash of {name}"),
        key_secret: "AAAAA****".to_owned(),
        name: name.to_owned(),
        kind: SetupKeyKind::Reusable,
        created_at: crate::test_support::START,
        expires_at: None,
        updated_at: crate::test_support::START,
        revoked: false,
        used_times: 0,
        last_used: None,
        auto_groups: Vec::new(),
        usage_limit: 0,
        ephemeral: false,
        allow_extra_dns_labels: false,
    }
}

fn proxy_token(name: &str) -> ProxyTokenRow {
    ProxyTokenRow {
        id: meshgate_proto::TokenId::new(name),
        name: name.to_owned(),
        hashed_token: format!("hash of {name}"),
        account_id: None,
        expires_at: None,
        created_by: "CLI".to_owned(),
        created_at: crate::test_support::START,
        last_used: None,
        revoked: false,
    }
}

fn personal_token(account: &TestAccount, name: &str) -> PersonalTokenRow {
    PersonalTokenRow {
        id: meshgate_proto::TokenId::new(name),
        user_id: account.owner.clone(),
        name: name.to_owned(),
        hashed_token: format!("hash of {name}"),
        expires_at: crate::test_support::START,
        created_by: account.owner.clone(),
        created_at: crate::test_support::START,
        last_used: None,
    }
}
