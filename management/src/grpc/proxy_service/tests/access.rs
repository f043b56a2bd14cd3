//! Who may do what: tokens, accounts, clusters, one-time tokens.

use meshgate_proto::WgPrivateKey;
use meshgate_proto::pb::management as pb;
use meshgate_proto::token::{Token, TokenKind};
use tonic::Code;

use super::harness::{Plane, Proxy, account_text, domains, init};
use crate::changes::Change;
use crate::grpc::proxy_service::ProxySettings;
use crate::tokens::revoke_proxy_token;

#[tokio::test]
async fn bad_tokens_are_told_why_and_never_lock_out_good_ones() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;
    let mut good = plane.client(&token.text);
    let mut bad = plane.client("garbage");
    let question = pb::ValidateSessionRequest::default;

    let anonymous = plane.anonymous().validate_session(question()).await.unwrap_err();
    assert_eq!(
        (anonymous.code(), anonymous.message()),
        (Code::Unauthenticated, "missing authorization header")
    );
    let personal = Token::generate(TokenKind::PersonalAccess);
    let personal = plane
        .client(personal.expose())
        .validate_session(question())
        .await
        .unwrap_err();
    assert_eq!(personal.code(), Code::Unauthenticated);
    assert!(personal.message().contains("nbx_"), "{}", personal.message());
    for _ in 0..20 {
        bad.validate_session(question()).await.unwrap_err();
    }

    assert_eq!(
        bad.validate_session(question()).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    assert!(good.validate_session(question()).await.is_ok());
    assert!(Proxy::connect(good, init("p", "proxy.test")).await.is_ok());
    let streaming = Proxy::connect(bad, init("q", "proxy.test")).await.unwrap_err();
    assert_eq!(streaming.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn introductions_that_make_no_sense_are_refused() {
    let plane = Plane::start(ProxySettings::default()).await;
    let token = plane.token(None).await;

    for (proxy, address) in [("", "proxy.test"), ("p", ""), ("p", "bad domain!")] {
        let refused = Proxy::connect(plane.client(&token.text), init(proxy, address))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{proxy:?} {address:?}");
    }
    let ack = pb::SyncMappingsRequest {
        msg: Some(pb::sync_mappings_request::Msg::Ack(pb::SyncMappingsAck {})),
    };
    let no_init = plane
        .client(&token.text)
        .sync_mappings(tokio_stream::once(ack))
        .await
        .unwrap_err();
    assert_eq!(no_init.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let plane = Plane::start(ProxySettings::default()).await;
    let (ours, theirs) = (plane.world.account().await, plane.world.account().await);
    let our_peer = plane.world.peer(&ours, "agent", 9).await;
    let their_peer = plane.world.peer(&theirs, "agent", 9).await;
    plane
        .store(&plane.service(&ours, "ours.proxy.test", &our_peer))
        .await;
    let their_service = plane.service(&theirs, "theirs.proxy.test", &their_peer);
    plane.store(&their_service).await;
    let (our_token, their_token) = (plane.token(Some(&ours)).await, plane.token(Some(&theirs)).await);
    let shared_token = plane.token(None).await;

    let mut proxy = plane.sync(&our_token, init("ours", "proxy.test")).await;
    assert_eq!(domains(&proxy.snapshot().await), ["ours.proxy.test"]);
    let mut shared = plane.sync(&shared_token, init("shared", "proxy.test")).await;
    assert_eq!(
        domains(&shared.snapshot().await),
        ["ours.proxy.test", "theirs.proxy.test"]
    );

    let claimed = Proxy::connect(plane.client(&their_token.text), init("theirs", "proxy.test"))
        .await
        .unwrap_err();
    assert_eq!(claimed.code(), Code::AlreadyExists);
    let stolen = Proxy::connect(plane.client(&their_token.text), init("ours", "their.test"))
        .await
        .unwrap_err();
    assert_eq!(stolen.code(), Code::AlreadyExists);

    plane
        .store(&plane.service(&theirs, "more.proxy.test", &their_peer))
        .await;
    assert_eq!(shared.change().await.1, "more.proxy.test");
    assert!(proxy.is_silent().await);

    let mut client = plane.client(&our_token.text);
    let account_id = account_text(&theirs);
    let id = their_service.service.id.to_string();
    let status = pb::SendStatusUpdateRequest {
        service_id: id.clone(),
        account_id: account_id.clone(),
        ..Default::default()
    };
    let log = pb::AccessLog {
        account_id: account_id.clone(),
        ..Default::default()
    };
    let login = pb::AuthenticateRequest {
        id: id.clone(),
        account_id: account_id.clone(),
        request: None,
    };
    let peer = pb::CreateProxyPeerRequest {
        account_id: account_id.clone(),
        ..Default::default()
    };
    let oidc = pb::GetOidcurlRequest {
        id,
        account_id,
        ..Default::default()
    };
    let domain = "theirs.proxy.test".to_owned();
    let session = pb::ValidateSessionRequest {
        domain: domain.clone(),
        session_token: "x".to_owned(),
    };
    let tunnel = pb::ValidateTunnelPeerRequest {
        domain,
        tunnel_ip: "100.64.0.9".to_owned(),
    };
    let codes = [
        client.send_status_update(status).await.unwrap_err().code(),
        client
            .send_access_log(pb::SendAccessLogRequest { log: Some(log) })
            .await
            .unwrap_err()
            .code(),
        client
            .send_access_log(pb::SendAccessLogRequest { log: None })
            .await
            .unwrap_err()
            .code(),
        client.authenticate(login).await.unwrap_err().code(),
        client.create_proxy_peer(peer).await.unwrap_err().code(),
        client.get_oidcurl(oidc).await.unwrap_err().code(),
        client.validate_session(session).await.unwrap_err().code(),
        client.validate_tunnel_peer(tunnel).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::PermissionDenied; 8]);
}

#[tokio::test]
async fn a_one_time_token_registers_one_peer() {
    let plane = Plane::start(ProxySettings::default()).await;
    let (account, other) = (plane.world.account().await, plane.world.account().await);
    let peer = plane.world.peer(&account, "agent", 9).await;
    let mut record = plane.service(&account, "a.proxy.test", &peer);
    plane.store(&record).await;
    let token = plane.token(None).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let first = proxy.snapshot().await.remove(0).auth_token;
    let key = WgPrivateKey::generate().public().to_string();
    let request = |token: &str, key: &str| pb::CreateProxyPeerRequest {
        service_id: record.service.id.to_string(),
        account_id: account_text(&account),
        token: token.to_owned(),
        wireguard_public_key: key.to_owned(),
        cluster: "proxy.test".to_owned(),
    };
    let (used, bogus, bad_key) = (
        request(&first, &key),
        request("bogus", &key),
        request(&first, "no key"),
    );
    let mut client = plane.client(&token.text);

    assert_eq!(
        client.create_proxy_peer(bad_key).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert!(
        client
            .create_proxy_peer(used.clone())
            .await
            .unwrap()
            .into_inner()
            .success
    );
    assert_eq!(
        client.create_proxy_peer(used.clone()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        client.create_proxy_peer(bogus).await.unwrap_err().code(),
        Code::Unauthenticated
    );

    let rows: Vec<(String, bool, String)> =
        sqlx::query_as("SELECT account_id, ephemeral, proxy_cluster FROM peers WHERE proxy_embedded = TRUE")
            .fetch_all(plane.world.state.store.reader())
            .await
            .unwrap();
    assert_eq!(rows, [(account_text(&account), true, "proxy.test".to_owned())]);

    record.service.pass_host_header = true;
    plane.change(&account, &record).await;
    let again = proxy.next().await.mapping.remove(0).auth_token;
    let again = pb::CreateProxyPeerRequest {
        token: again,
        ..used.clone()
    };
    assert!(
        client
            .create_proxy_peer(again)
            .await
            .unwrap()
            .into_inner()
            .success
    );

    record.service.pass_host_header = false;
    plane.change(&account, &record).await;
    let third = proxy.next().await.mapping.remove(0).auth_token;
    let wrong_account = pb::CreateProxyPeerRequest {
        token: third.clone(),
        account_id: account_text(&other),
        ..used.clone()
    };
    assert_eq!(
        client.create_proxy_peer(wrong_account).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let spent = pb::CreateProxyPeerRequest { token: third, ..used };
    assert_eq!(
        client.create_proxy_peer(spent).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn the_peers_of_a_proxy_go_with_its_token() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let record = plane.service(&account, "a.proxy.test", &peer);
    plane.store(&record).await;
    let token = plane.token(Some(&account)).await;
    let mut proxy = plane.sync(&token, init("p", "proxy.test")).await;
    let key = WgPrivateKey::generate().public();
    let request = pb::CreateProxyPeerRequest {
        service_id: record.service.id.to_string(),
        account_id: account_text(&account),
        token: proxy.snapshot().await.remove(0).auth_token,
        wireguard_public_key: key.to_string(),
        cluster: "proxy.test".to_owned(),
    };
    plane
        .client(&token.text)
        .create_proxy_peer(request)
        .await
        .unwrap();
    let state = &plane.world.state;
    let mut news = state.changes.subscribe();
    assert!(state.store.peer_by_key_anywhere(&key).await.unwrap().is_some());

    revoke_proxy_token(&state.store, &state.changes, &account.actor(), &token.id)
        .await
        .unwrap();

    assert_eq!(state.store.peer_by_key_anywhere(&key).await.unwrap(), None);
    assert!(matches!(news.recv().await, Ok(Change::ProxyTokenRevoked { .. })));
    assert!(matches!(news.recv().await, Ok(Change::PeerRemoved { key: told, .. }) if told == key));
    assert_eq!(proxy.end().await.code(), Code::Cancelled);
}
