//! Secrets, sessions and tunnel peers.

use futures::future::join_all;
use meshgate_proto::pb::management as pb;
use meshgate_proto::{GroupId, PeerId};
use pb::authenticate_request::Request as Presented;
use tonic::{Code, Request};

use super::harness::{Client, Plane, account_text};
use crate::grpc::proxy_service::ProxySettings;
use crate::grpc::proxy_service::login::CLIENT_ADDRESS;
use crate::session::{self, LoginMethod};
use crate::store::service_records::{BearerAuth, ServiceRecord, StoredHeader, StoredSecret};
use crate::test_support::TestAccount;

async fn secret(plane: &Plane, text: &str) -> Option<StoredSecret> {
    let hash = plane.passwords.hash(text.into()).await.unwrap();
    Some(StoredSecret {
        enabled: true,
        hash: hash.into_string(),
    })
}

fn pin(record: &ServiceRecord, pin: &str) -> pb::AuthenticateRequest {
    attempt(record, Presented::Pin(pb::PinRequest { pin: pin.to_owned() }))
}

fn password(record: &ServiceRecord, password: &str) -> pb::AuthenticateRequest {
    attempt(
        record,
        Presented::Password(pb::PasswordRequest {
            password: password.to_owned(),
        }),
    )
}

fn header(record: &ServiceRecord, name: &str, value: &str) -> pb::AuthenticateRequest {
    let request = pb::HeaderAuthRequest {
        header_value: value.to_owned(),
        header_name: name.to_owned(),
    };
    attempt(record, Presented::HeaderAuth(request))
}

fn attempt(record: &ServiceRecord, presented: Presented) -> pb::AuthenticateRequest {
    pb::AuthenticateRequest {
        id: record.service.id.to_string(),
        account_id: record.service.account_id.to_string(),
        request: Some(presented),
    }
}

/// The subject of the session that a login is worth, if it is right.
async fn login(
    client: &mut Client,
    record: &ServiceRecord,
    request: pb::AuthenticateRequest,
) -> Option<String> {
    let answer = client.authenticate(request).await.unwrap().into_inner();
    if !answer.success {
        assert!(answer.session_token.is_empty());
        return None;
    }
    let key = base64_key(&record.service.session_public_key);
    let now = meshgate_proto::UnixTime::from_secs(1_767_225_600);
    let session = session::verify(key, &answer.session_token, &record.service.domain, now).unwrap();
    Some(session.subject.into_string())
}

fn base64_key(text: &str) -> meshgate_proto::SessionPublicKey {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    meshgate_proto::SessionPublicKey(key.try_into().unwrap())
}

#[tokio::test]
async fn right_secrets_open_and_wrong_ones_do_not() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let mut both = plane.service(&account, "both.proxy.test", &peer);
    both.service.auth.pin = secret(&plane, "123456").await;
    both.service.auth.password = secret(&plane, "s3cret").await;
    let key = secret(&plane, "k-one").await.unwrap().hash;
    both.service.auth.headers = vec![StoredHeader {
        enabled: true,
        header: "X-Api-Key".to_owned(),
        hash: key.clone(),
    }];
    plane.store(&both).await;
    let mut off = plane.service(&account, "off.proxy.test", &peer);
    off.service.auth.pin = secret(&plane, "123456").await.map(|pin| StoredSecret {
        enabled: false,
        ..pin
    });
    off.service.auth.headers = vec![StoredHeader {
        enabled: false,
        header: "X-Api-Key".to_owned(),
        hash: key,
    }];
    plane.store(&off).await;
    let token = plane.token(Some(&account)).await;
    let mut client = plane.client(&token.text);

    let pin_user = Some("pin-user".to_owned());
    assert_eq!(login(&mut client, &both, pin(&both, "123456")).await, pin_user);
    assert_eq!(
        login(&mut client, &both, password(&both, "s3cret"))
            .await
            .as_deref(),
        Some("password-user")
    );
    assert_eq!(
        login(&mut client, &both, header(&both, "x-api-key", "k-one"))
            .await
            .as_deref(),
        Some("header-user")
    );
    for wrong in [
        pin(&both, "000000"),
        pin(&both, "s3cret"),
        password(&both, "123456"),
        password(&both, ""),
        password(&both, &"x".repeat(10_000)),
        header(&both, "X-Api-Key", "k-two"),
        header(&both, "X-Other", "k-one"),
        pb::AuthenticateRequest {
            request: None,
            ..pin(&both, "")
        },
    ] {
        assert_eq!(login(&mut client, &both, wrong).await, None);
    }
    assert_eq!(login(&mut client, &off, pin(&off, "123456")).await, None);
    assert_eq!(
        login(&mut client, &off, header(&off, "X-Api-Key", "k-one")).await,
        None
    );
    let unknown = pb::AuthenticateRequest {
        id: "nope".to_owned(),
        ..pin(&both, "1")
    };
    assert_eq!(
        client.authenticate(unknown).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
}

#[tokio::test]
async fn two_hundred_forty_guesses_at_once_are_bounded_and_slow_nobody() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let mut services = Vec::new();
    let stored = secret(&plane, "123456").await;
    for n in 0..4 {
        let mut record = plane.service(&account, &format!("pin{n}.proxy.test"), &peer);
        record.service.auth.pin.clone_from(&stored);
        plane.store(&record).await;
        services.push(record);
    }
    let token = plane.token(None).await;
    let client = plane.client(&token.text);

    let guesses = (0..240).map(|n| {
        let (mut client, request) = (client.clone(), pin(&services[n % 4], "000000"));
        async move { client.authenticate(request).await }
    });
    let api = async {
        for _ in 0..50 {
            plane
                .world
                .state
                .store
                .proxy_tokens(&account.scope)
                .await
                .unwrap();
            plane.change(&account, &services[0]).await;
        }
        plane.passwords.hash("set meanwhile".into()).await
    };
    let (answers, api) = tokio::join!(join_all(guesses), api);

    let wrong = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(
        refused
            .clone()
            .all(|status| status.code() == Code::ResourceExhausted)
    );
    assert_eq!(wrong + refused.count(), 240);
    assert!(answers.iter().flatten().all(|answer| !answer.get_ref().success));
    assert!(wrong <= 4 * 30, "{wrong}");
    assert!(api.is_ok());
    let stats = plane.passwords.stats();
    assert!(stats.most_areas <= 2, "{stats:?}");
}

#[tokio::test]
async fn a_named_client_is_limited_alone() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let mut record = plane.service(&account, "pin.proxy.test", &peer);
    record.service.auth.pin = secret(&plane, "123456").await;
    plane.store(&record).await;
    let token = plane.token(None).await;
    let mut client = plane.client(&token.text);
    let from = |address: &str, request: pb::AuthenticateRequest| {
        let mut request = Request::new(request);
        request
            .metadata_mut()
            .insert(CLIENT_ADDRESS, address.parse().unwrap());
        request
    };

    let mut codes = Vec::new();
    for _ in 0..12 {
        codes.push(
            client
                .authenticate(from("192.0.2.1", pin(&record, "0")))
                .await
                .map_or_else(|s| s.code(), |_| Code::Ok),
        );
    }
    assert_eq!(codes.iter().filter(|code| **code == Code::Ok).count(), 10);
    assert_eq!(codes[11], Code::ResourceExhausted);

    let owner = client
        .authenticate(from("192.0.2.2", pin(&record, "123456")))
        .await
        .unwrap()
        .into_inner();
    assert!(owner.success);
}

#[tokio::test]
async fn being_a_peer_opens_what_is_private_and_replaces_no_secret() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let member = plane.world.peer(&account, "member", 9).await;
    let stranger = plane.world.peer(&account, "stranger", 10).await;
    let group = add_group(&plane, &account, "g1", &member).await;
    let service = |domain: &str| plane.service(&account, domain, &member);
    let mut private = service("priv.proxy.test");
    (private.service.private, private.service.access_groups) = (true, vec![group.clone()]);
    let mut nobody = service("nobody.proxy.test");
    nobody.service.private = true;
    let mut pin = service("pin.proxy.test");
    pin.service.auth.pin = Some(StoredSecret {
        enabled: true,
        hash: "h".to_owned(),
    });
    let mut sso = service("sso.proxy.test");
    sso.service.auth.bearer = Some(BearerAuth {
        enabled: true,
        groups: vec![group.clone()],
    });
    for record in [&private, &nobody, &pin, &sso, &service("open.proxy.test")] {
        plane.store(record).await;
    }
    let token = plane.token(Some(&account)).await;
    let ask = |ip: &str, domain: &str| {
        let mut client = plane.client(&token.text);
        let request = pb::ValidateTunnelPeerRequest {
            tunnel_ip: ip.to_owned(),
            domain: domain.to_owned(),
        };
        async move { client.validate_tunnel_peer(request).await.unwrap().into_inner() }
    };

    let allowed = ask("100.64.0.9", "priv.proxy.test").await;
    assert!(allowed.valid);
    assert_eq!(
        (allowed.user_id.as_str(), allowed.user_email.as_str()),
        (member.as_str(), "member")
    );
    assert_eq!(
        allowed.peer_group_ids,
        [account.all.to_string(), group.to_string()]
    );
    assert_eq!(allowed.peer_group_names, ["All", "g1"]);
    let key = base64_key(&private.service.session_public_key);
    let session = session::verify(
        key,
        &allowed.session_token,
        &private.service.domain,
        plane.world.now(),
    )
    .unwrap();
    assert_eq!((session.method, session.groups.len()), (LoginMethod::Oidc, 2));

    let denied = ask("100.64.0.10", "priv.proxy.test").await;
    assert_eq!(
        (denied.valid, denied.denied_reason.as_str()),
        (false, "not_in_group")
    );
    assert_eq!(
        (denied.user_id.as_str(), denied.session_token.as_str()),
        (stranger.as_str(), "")
    );
    assert_eq!(denied.peer_group_names, ["All"]);

    for (ip, domain, reason) in [
        ("100.64.0.9", "nobody.proxy.test", "not_in_group"),
        ("100.64.0.9", "pin.proxy.test", "not_in_group"),
        ("100.64.0.10", "sso.proxy.test", "not_in_group"),
        ("100.64.1.1", "priv.proxy.test", "peer_not_found"),
        ("nonsense", "priv.proxy.test", "invalid_tunnel_ip"),
        ("100.64.0.9", "none.proxy.test", "service_not_found"),
        ("", "", "missing domain or tunnel_ip"),
    ] {
        assert_eq!(ask(ip, domain).await.denied_reason, reason, "{ip} {domain}");
    }
    assert!(ask("100.64.0.9", "sso.proxy.test").await.valid);
    assert!(ask("100.64.0.10", "open.proxy.test").await.valid);
}

#[tokio::test]
async fn sessions_are_checked_against_the_users_present_state() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let mut sso = plane.service(&account, "sso.proxy.test", &peer);
    sso.service.auth.bearer = Some(BearerAuth {
        enabled: true,
        groups: vec![account.all.clone()],
    });
    plane.store(&sso).await;
    let mut closed = plane.service(&account, "closed.proxy.test", &peer);
    closed.service.auth.bearer = Some(BearerAuth {
        enabled: true,
        groups: vec![GroupId::new("other")],
    });
    plane.store(&closed).await;
    let sign = |record: &ServiceRecord, subject: &str| {
        let text = plane
            .world
            .state
            .at_rest
            .unseal(&record.service.session_private_key)
            .unwrap();
        let session = session::Session {
            subject: meshgate_proto::UserId::new(subject),
            method: LoginMethod::Oidc,
            email: "a@example.test".to_owned(),
            groups: Vec::new(),
        };
        session::SessionKey::from_text(&text).unwrap().sign(
            &session,
            &record.service.domain,
            plane.world.now(),
        )
    };
    let token = plane.token(Some(&account)).await;
    let ask = |domain: &str, session_token: String| {
        let mut client = plane.client(&token.text);
        let request = pb::ValidateSessionRequest {
            domain: domain.to_owned(),
            session_token,
        };
        async move { client.validate_session(request).await.unwrap().into_inner() }
    };
    let owner = account.owner.as_str();

    let valid = ask("sso.proxy.test", sign(&sso, owner)).await;
    assert!(valid.valid);
    assert_eq!(
        (valid.user_id.as_str(), valid.user_email.as_str()),
        (owner, "a@example.test")
    );
    for (domain, session_token, reason) in [
        ("", String::new(), "missing domain or session_token"),
        ("none.proxy.test", "x".to_owned(), "service_not_found"),
        ("sso.proxy.test", "x".to_owned(), "invalid_token"),
        ("sso.proxy.test", sign(&closed, owner), "invalid_token"),
        ("sso.proxy.test", sign(&sso, "pin-user"), "user_not_found"),
        ("closed.proxy.test", sign(&closed, owner), "not_in_group"),
    ] {
        let answer = ask(domain, session_token).await;
        assert_eq!((answer.valid, answer.denied_reason.as_str()), (false, reason));
    }
    let mut tx = plane.world.state.store.begin().await.unwrap();
    sqlx::query("UPDATE users SET blocked = TRUE")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        ask("sso.proxy.test", sign(&sso, owner)).await.denied_reason,
        "user_blocked"
    );
}

#[tokio::test]
async fn single_sign_on_says_that_there_is_no_provider() {
    let plane = Plane::start(ProxySettings::default()).await;
    let account = plane.world.account().await;
    let peer = plane.world.peer(&account, "agent", 9).await;
    let sso = plane.service(&account, "sso.proxy.test", &peer);
    plane.store(&sso).await;
    let token = plane.token(Some(&account)).await;
    let mut client = plane.client(&token.text);
    let request = |redirect_url: &str| pb::GetOidcurlRequest {
        id: sso.service.id.to_string(),
        account_id: account_text(&account),
        redirect_url: redirect_url.to_owned(),
    };

    for (redirect, code, words) in [
        (
            "https://sso.proxy.test:8443/",
            Code::FailedPrecondition,
            "no identity provider",
        ),
        (
            "https://evil.example/",
            Code::FailedPrecondition,
            "service not found",
        ),
        ("ftp://sso.proxy.test/", Code::InvalidArgument, "http or https"),
    ] {
        let status = client.get_oidcurl(request(redirect)).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().contains(words), "{}", status.message());
    }
}

async fn add_group(plane: &Plane, account: &TestAccount, name: &str, peer: &PeerId) -> GroupId {
    let id = GroupId::new(format!("zz-{name}"));
    let group = crate::store::groups::GroupRow {
        id: id.clone(),
        account_id: account.scope.account().clone(),
        name: name.to_owned(),
        issued: "api".to_owned(),
        resources: Vec::new(),
        created_at: plane.world.now(),
    };
    let mut tx = plane.world.state.store.begin().await.unwrap();
    tx.insert_group(&group).await.unwrap();
    tx.add_group_peer(&account.scope, &id, peer).await.unwrap();
    tx.commit().await.unwrap();
    id
}
