use std::time::Duration;

use super::*;
use crate::store::groups::GroupRow;
use crate::test_support::{TestAccount, World};

#[tokio::test]
async fn groups_are_found_by_id_and_by_name() {
    let world = World::new().await;
    let account = world.account().await;
    let group = group(&world, &account, "ai-workers").await;

    for named in [group.as_str(), "ai-workers"] {
        let new = NewSetupKey {
            auto_groups: vec![named.to_owned()],
            ..reusable("k")
        };
        let made = create(&world.state.store, &account.actor(), new, world.now())
            .await
            .unwrap();
        assert_eq!(made.row.auto_groups, std::slice::from_ref(&group));
    }
}

#[tokio::test]
async fn groups_of_others_and_all_are_refused() {
    let world = World::new().await;
    let (account, other) = (world.account().await, world.account().await);
    let foreign = group(&world, &other, "theirs").await;

    for named in [foreign.as_str(), "theirs", "All", account.all.as_str()] {
        let new = NewSetupKey {
            auto_groups: vec![named.to_owned()],
            ..reusable("k")
        };
        let error = create(&world.state.store, &account.actor(), new, world.now())
            .await
            .unwrap_err();
        assert!(matches!(error, UseCaseError::Invalid(_)), "{named}: {error}");
    }
}

#[tokio::test]
async fn a_key_lets_in_until_it_is_used_up() {
    let world = World::new().await;
    let account = world.account().await;
    let new = NewSetupKey {
        usage_limit: 2,
        ..reusable("k")
    };
    let made = create(&world.state.store, &account.actor(), new, world.now())
        .await
        .unwrap();

    let mut used = Vec::new();
    for _ in 0..3 {
        used.push(use_once(&world, &account, &made.row.id).await);
    }

    assert_eq!(used, [true, true, false]);
    let key = get(&world.state.store, &account.actor(), &made.row.id)
        .await
        .unwrap();
    assert_eq!(state(&key, world.now()), SetupKeyState::Overused);
    assert_eq!(key.last_used, Some(world.now()));
}

#[tokio::test]
async fn a_key_lets_in_until_its_time_is_over() {
    let world = World::new().await;
    let account = world.account().await;
    let new = NewSetupKey {
        expires_in: 60,
        ..reusable("k")
    };
    let made = create(&world.state.store, &account.actor(), new, world.now())
        .await
        .unwrap();

    world.clock.advance(Duration::from_secs(59));
    assert!(use_once(&world, &account, &made.row.id).await);
    world.clock.advance(Duration::from_secs(1));
    assert!(!use_once(&world, &account, &made.row.id).await);

    assert_eq!(state(&made.row, world.now()), SetupKeyState::Expired);
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let world = World::new().await;
    let account = world.account().await;
    let store = &world.state.store;
    let made = create(store, &account.actor(), reusable("k"), world.now())
        .await
        .unwrap();
    let change = |revoked| SetupKeyUpdate {
        revoked,
        auto_groups: Some(Vec::new()),
    };

    for _ in 0..2 {
        update(store, &account.actor(), &made.row.id, change(true), world.now())
            .await
            .unwrap();
    }
    let error = update(store, &account.actor(), &made.row.id, change(false), world.now())
        .await
        .unwrap_err();

    assert!(matches!(error, UseCaseError::Invalid(_)));
    assert!(!use_once(&world, &account, &made.row.id).await);
}

#[tokio::test]
async fn keys_of_others_are_not_there() {
    let world = World::new().await;
    let (account, other) = (world.account().await, world.account().await);
    let store = &world.state.store;
    let made = create(store, &account.actor(), reusable("k"), world.now())
        .await
        .unwrap();
    let id = &made.row.id;
    let change = SetupKeyUpdate {
        revoked: true,
        auto_groups: Some(Vec::new()),
    };

    assert!(matches!(
        get(store, &other.actor(), id).await,
        Err(UseCaseError::NotFound(_))
    ));
    assert!(matches!(
        delete(store, &other.actor(), id).await,
        Err(UseCaseError::NotFound(_))
    ));
    let updated = update(store, &other.actor(), id, change, world.now()).await;
    assert!(matches!(updated, Err(UseCaseError::NotFound(_))));
    assert!(list(store, &other.actor()).await.unwrap().is_empty());
    assert!(!use_once(&world, &other, id).await);
    assert_eq!(get(store, &account.actor(), id).await.unwrap(), made.row);
}

#[tokio::test]
async fn a_key_is_found_by_its_hash_in_either_case() {
    let world = World::new().await;
    let account = world.account().await;
    let made = create(&world.state.store, &account.actor(), reusable("k"), world.now())
        .await
        .unwrap();

    let lower = made.key.expose().to_lowercase();
    let found = world.state.store.setup_key_anywhere(&hash(&lower)).await.unwrap();

    assert_eq!(found.unwrap(), made.row);
    assert_eq!(made.row.key_secret, format!("{}****", &made.key.expose()[..5]));
}

fn reusable(name: &str) -> NewSetupKey {
    NewSetupKey {
        name: name.to_owned(),
        kind: "reusable".to_owned(),
        expires_in: 0,
        auto_groups: Vec::new(),
        usage_limit: 0,
        ephemeral: false,
        allow_extra_dns_labels: false,
    }
}

async fn use_once(world: &World, account: &TestAccount, id: &SetupKeyId) -> bool {
    let mut tx = world.state.store.begin().await.unwrap();
    let used = tx.use_setup_key(&account.scope, id, world.now()).await.unwrap();
    tx.commit().await.unwrap();
    used
}

async fn group(world: &World, account: &TestAccount, name: &str) -> GroupId {
    let id = GroupId::from(Xid::generate(world.now()));
    let mut tx = world.state.store.begin().await.unwrap();
    tx.insert_group(&GroupRow {
        id: id.clone(),
        account_id: account.scope.account().clone(),
        name: name.to_owned(),
        issued: "api".to_owned(),
        resources: Vec::new(),
        created_at: world.now(),
    })
    .await
    .unwrap();
    tx.commit().await.unwrap();
    id
}
