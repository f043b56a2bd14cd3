use meshgate_proto::SystemClock;
use meshgate_proto::token::TokenKind;

use super::*;
use crate::authn;

#[tokio::test]
async fn the_first_token_opens_the_first_account_beside_a_running_server() {
    let (dir, admin) = open().await;
    let server = Store::open(&crate::config::store_path(dir.path())).await.unwrap();

    let first = admin.create_first_admin("net.test", &owner(), 30).await.unwrap();

    let header = format!("Token {}", first.token.expose());
    let actor = authn::authenticate(&server, Some(&header), SystemClock.now())
        .await
        .unwrap();
    assert_eq!(actor.scope().account(), &first.account);
    assert_eq!(actor.role(), Role::Owner);
}

#[tokio::test]
async fn there_is_only_one_first_account() {
    let (_dir, admin) = open().await;
    let first = admin.create_first_admin("net.test", &owner(), 1).await.unwrap();

    let error = admin
        .create_first_admin("net.test", &owner(), 1)
        .await
        .unwrap_err();

    assert!(matches!(error, AdminError::AccountExists(account) if account == first.account));
    assert_eq!(admin.accounts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_an_account_it_says_what_to_do() {
    let (_dir, admin) = open().await;

    let error = admin.create_setup_key(None, key()).await.unwrap_err();

    assert!(error.to_string().contains("make the first one"), "{error}");
}

#[tokio::test]
async fn an_owner_is_found_by_his_address_in_any_case() {
    let (_dir, admin) = open().await;
    admin.create_first_admin("net.test", &owner(), 1).await.unwrap();

    let token = admin
        .create_personal_token(None, Some("OWNER@example.test"), "t", 5)
        .await
        .unwrap();
    let unknown = admin
        .create_personal_token(None, Some("x@example.test"), "t", 5)
        .await;

    assert_eq!(token.kind(), TokenKind::PersonalAccess);
    assert!(matches!(unknown, Err(AdminError::UnknownUser { .. })));
    assert_eq!(admin.personal_tokens(None, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn proxy_tokens_serve_one_account_or_all() {
    let (_dir, admin) = open().await;
    let first = admin.create_first_admin("net.test", &owner(), 1).await.unwrap();
    let new = || NewProxyToken {
        name: "p".to_owned(),
        expires_in: 0,
    };

    let global = admin
        .create_proxy_token(TokenReach::Everywhere, new())
        .await
        .unwrap();
    let own = admin
        .create_proxy_token(TokenReach::Account(None), new())
        .await
        .unwrap();
    let stranger = TokenReach::Account(Some(AccountId::new("nobody")));
    let unknown = admin.create_proxy_token(stranger, new()).await;

    assert_eq!(global.row.account_id, None);
    assert_eq!(own.row.account_id, Some(first.account));
    assert!(matches!(unknown, Err(AdminError::UnknownAccount(_))));
    assert_eq!(global.row.created_by, "CLI");
}

#[tokio::test]
async fn both_kinds_of_token_are_taken_back_by_id() {
    let (_dir, admin) = open().await;
    admin.create_first_admin("net.test", &owner(), 1).await.unwrap();
    let new = NewProxyToken {
        name: "p".to_owned(),
        expires_in: 0,
    };
    let proxy = admin
        .create_proxy_token(TokenReach::Everywhere, new)
        .await
        .unwrap();
    let personal = admin.personal_tokens(None, None).await.unwrap().remove(0);

    admin.revoke_token(&proxy.row.id).await.unwrap();
    admin.revoke_token(&personal.id).await.unwrap();
    let unknown = admin.revoke_token(&personal.id).await;

    assert!(admin.proxy_tokens().await.unwrap()[0].revoked);
    assert!(admin.personal_tokens(None, None).await.unwrap().is_empty());
    assert!(matches!(unknown, Err(AdminError::UnknownToken(_))));
}

#[tokio::test]
async fn setup_keys_are_made_in_the_only_account() {
    let (_dir, admin) = open().await;
    admin.create_first_admin("net.test", &owner(), 1).await.unwrap();

    let made = admin.create_setup_key(None, key()).await.unwrap();

    assert_eq!(admin.setup_keys(None).await.unwrap(), [made.row]);
}

async fn open() -> (tempfile::TempDir, Admin) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path(), "http://127.0.0.1:1".parse().unwrap());
    let admin = Admin::open(&config, Arc::new(SystemClock)).await.unwrap();
    (dir, admin)
}

fn owner() -> NewOwner {
    NewOwner {
        name: "Owner".to_owned(),
        email: "owner@example.test".to_owned(),
    }
}

fn key() -> NewSetupKey {
    NewSetupKey {
        name: "agents".to_owned(),
        kind: "reusable".to_owned(),
        expires_in: 0,
        auto_groups: Vec::new(),
        usage_limit: 0,
        ephemeral: false,
        allow_extra_dns_labels: false,
    }
}
