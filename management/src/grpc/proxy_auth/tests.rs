use meshgate_proto::Clock as _;
use proptest::prelude::*;
use tonic::Code;

use super::*;
use crate::store::proxy_tokens::ProxyTokenRow;
use crate::test_support::World;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn headers(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value.parse().unwrap());
    headers
}

async fn token(world: &World, id: &str, revoked: bool, expires_at: Option<UnixTime>) -> HeaderMap {
    let token = Token::generate(TokenKind::Proxy);
    let row = ProxyTokenRow {
        id: TokenId::new(id),
        name: id.to_owned(),
        hashed_token: token.hash(),
        account_id: None,
        expires_at,
        created_by: "CLI".to_owned(),
        created_at: world.now(),
        last_used: None,
        revoked,
    };
    let mut tx = world.state.store.begin().await.unwrap();
    tx.insert_proxy_token(&row).await.unwrap();
    tx.commit().await.unwrap();
    headers(&format!("Bearer {}", token.expose()))
}

async fn refusal(auth: &ProxyAuth, headers: &HeaderMap) -> (Code, String) {
    let status = auth.authenticate(headers, HOME).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn each_wrong_token_is_told_what_is_wrong() {
    let world = World::new().await;
    let revoked = token(&world, "revoked", true, None).await;
    let expired = token(&world, "expired", false, Some(world.now())).await;
    let personal = Token::generate(TokenKind::PersonalAccess);
    let unknown = Token::generate(TokenKind::Proxy);
    let cases = [
        (HeaderMap::new(), "missing authorization header"),
        (
            headers(&format!("bearer {}", unknown.expose())),
            "invalid authorization format",
        ),
        (headers("Basic eA=="), "invalid authorization format"),
        (headers("Bearer garbage"), "invalid token format"),
        (
            headers("Bearer nbx_000000000000000000000000000000000000"),
            "invalid token format",
        ),
        (
            headers(&format!("Bearer {}", personal.expose())),
            "proxy token (nbx_…)",
        ),
        (headers(&format!("Bearer {}", unknown.expose())), "invalid token"),
        (revoked, "token expired or revoked"),
        (expired, "token expired or revoked"),
    ];

    for (headers, message) in cases {
        let auth = ProxyAuth::new(Arc::clone(&world.state));
        let (code, text) = refusal(&auth, &headers).await;
        assert_eq!(code, Code::Unauthenticated);
        assert!(text.contains(message), "{text}");
    }
}

#[tokio::test]
async fn bad_tokens_are_limited_and_never_lock_out_good_ones() {
    let world = World::new().await;
    let good = token(&world, "good", false, None).await;
    let auth = ProxyAuth::new(Arc::clone(&world.state));
    let bad = headers("Bearer garbage");

    for _ in 0..5 {
        assert_eq!(refusal(&auth, &bad).await.0, Code::Unauthenticated);
    }
    for _ in 0..100 {
        assert_eq!(refusal(&auth, &bad).await.0, Code::ResourceExhausted);
        assert!(auth.authenticate(&good, HOME).await.is_ok());
    }
    world.clock.advance(Duration::from_secs(12));

    assert_eq!(refusal(&auth, &bad).await.0, Code::Unauthenticated);
    assert_eq!(refusal(&auth, &bad).await.0, Code::ResourceExhausted);
    let elsewhere = auth
        .authenticate(&bad, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)))
        .await
        .unwrap_err();
    assert_eq!(elsewhere.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_use_is_noted_once_a_minute() {
    let world = World::new().await;
    let good = token(&world, "good", false, None).await;
    let auth = ProxyAuth::new(Arc::clone(&world.state));
    let last_used = || async {
        let row = world
            .state
            .store
            .proxy_token_anywhere(&TokenId::new("good"))
            .await
            .unwrap();
        row.unwrap().last_used
    };
    let start = world.clock.now();

    auth.authenticate(&good, HOME).await.unwrap();
    assert_eq!(last_used().await, Some(start));
    world.clock.advance(Duration::from_secs(59));
    auth.authenticate(&good, HOME).await.unwrap();
    assert_eq!(last_used().await, Some(start));
    world.clock.advance(Duration::from_secs(1));
    auth.authenticate(&good, HOME).await.unwrap();

    assert_eq!(last_used().await, Some(world.clock.now()));
}

proptest! {
    #[test]
    fn reading_the_header_never_panics(text in "\\PC{0,60}", bytes in prop::collection::vec(32u8..=255, 0..60)) {
        for value in [text.as_bytes(), format!("Bearer nbx_{text}").as_bytes(), &bytes] {
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, value);
                let _ = bearer(&headers);
            }
        }
    }
}
