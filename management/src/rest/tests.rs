mod replay;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::changes::Change;
use crate::test_support::{TestAccount, World};

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn assert_error(&self, status: u16, message: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.json(), json!({"message": message, "code": status}));
    }
}

async fn send(world: &World, request: Request<Body>) -> Reply {
    let response = router(Arc::clone(&world.state)).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Reply {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

async fn call(world: &World, account: &TestAccount, method: &str, path: &str, body: Value) -> Reply {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Token {}", account.token))
        .body(Body::from(text))
        .unwrap();
    send(world, request).await
}

fn bare(method: &str, path: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .unwrap()
}

/// Every route with one of its verbs that needs a caller.
const ROUTES: [(&str, &str); 17] = [
    ("GET", "/api/instance/version"),
    ("GET", "/api/users/current"),
    ("GET", "/api/setup-keys"),
    ("POST", "/api/setup-keys"),
    ("PUT", "/api/setup-keys/x"),
    ("DELETE", "/api/setup-keys/x"),
    ("GET", "/api/peers"),
    ("DELETE", "/api/peers/x"),
    ("GET", "/api/groups"),
    ("GET", "/api/groups/x"),
    ("POST", "/api/reverse-proxies/services"),
    ("PUT", "/api/reverse-proxies/services/x"),
    ("DELETE", "/api/reverse-proxies/services/x"),
    ("POST", "/api/reverse-proxies/proxy-tokens"),
    ("DELETE", "/api/reverse-proxies/proxy-tokens/x"),
    ("GET", "/api/reverse-proxies/clusters"),
    ("GET", "/api/events/proxy"),
];

#[tokio::test]
async fn nobody_gets_in_without_a_token() {
    let world = World::new().await;

    for (method, path) in ROUTES {
        let reply = send(&world, bare(method, path)).await;
        reply.assert_error(401, "no valid authentication provided");
        assert_eq!(reply.header("content-type"), "application/json; charset=UTF-8");
        assert_eq!(reply.header("x-request-id").len(), 20);
        assert_eq!(reply.header("vary"), "Origin");
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
}

#[tokio::test]
async fn what_is_not_routed_is_not_found_before_anybody_is_asked() {
    let world = World::new().await;

    for (method, path) in [
        ("GET", "/api/nope"),
        ("GET", "/api"),
        ("GET", "/x"),
        ("GET", "/api/groups/"),
        ("PATCH", "/api/groups"),
        ("HEAD", "/api/groups"),
        ("POST", "/api/instance"),
        ("OPTIONS", "/api/nope"),
        ("GET", "/api/reverse-proxies/proxy-tokens/x"),
        ("GET", "/api/groups/%ff"),
    ] {
        let reply = send(&world, bare(method, path)).await;
        if path.contains('%') {
            assert_ne!(reply.status, StatusCode::OK);
            continue;
        }
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
        if method != "HEAD" {
            assert_eq!(reply.text, "404 page not found\n");
        }
        assert_eq!(reply.header("x-request-id"), "");
    }
}

#[tokio::test]
async fn doubled_slashes_lead_to_the_clean_path_of_this_host() {
    let world = World::new().await;

    let reply = send(&world, bare("GET", "/api//groups?name=a")).await;
    let outside = send(&world, bare("GET", "//evil.test/")).await;

    assert_eq!(reply.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(reply.header("location"), "/api/groups?name=a");
    assert_eq!(outside.header("location"), "/evil.test/");
}

#[tokio::test]
async fn browsers_may_ask_and_try() {
    let world = World::new().await;
    let account = world.account().await;
    let preflight = Request::builder()
        .method("OPTIONS")
        .uri("/api/setup-keys")
        .header("origin", "https://app.test")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "Authorization, Content-Type")
        .body(Body::empty())
        .unwrap();
    let from_page = Request::builder()
        .uri("/api/groups")
        .header("origin", "https://app.test")
        .body(Body::empty())
        .unwrap();

    let asked = send(&world, preflight).await;
    let tried = send(&world, from_page).await;
    let plain = call(&world, &account, "OPTIONS", "/api/groups", Value::Null).await;
    let plain_nobody = send(&world, bare("OPTIONS", "/api/groups")).await;

    assert_eq!(asked.status, StatusCode::NO_CONTENT);
    assert_eq!(asked.header("access-control-allow-origin"), "*");
    assert_eq!(asked.header("access-control-allow-methods"), "PUT");
    assert_eq!(
        asked.header("access-control-allow-headers"),
        "Authorization, Content-Type"
    );
    assert!(asked.header("vary").contains("Access-Control-Request-Headers"));
    assert_eq!(tried.status, StatusCode::UNAUTHORIZED);
    assert_eq!(tried.header("access-control-allow-origin"), "*");
    assert_eq!(plain.status, StatusCode::NO_CONTENT);
    assert_eq!(plain_nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bodies_are_read_as_clients_write_them() {
    let world = World::new().await;
    let account = world.account().await;
    let good = r#"{"name":"k","type":"reusable","nonsense":1,"auto_groups":null}"#;
    let cases = [
        (String::new(), 400),
        ("{\"name\":".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("\"text\"".to_owned(), 400),
        ("{\"name\":5}".to_owned(), 400),
        ("{\"expires_in\":1.5}".to_owned(), 400),
        ("null".to_owned(), 422),
        ("{}".to_owned(), 422),
        (good.to_owned(), 200),
        (format!("{good} and more"), 200),
        (format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20)), 413),
    ];

    for (text, expected) in cases {
        let start = text.chars().take(30).collect::<String>();
        let request = Request::builder()
            .method("POST")
            .uri("/api/setup-keys")
            .header("authorization", format!("Token {}", account.token))
            .body(Body::from(text))
            .unwrap();
        let reply = send(&world, request).await;
        assert_eq!(reply.status.as_u16(), expected, "{start}: {}", reply.text);
        if expected != 200 {
            assert_eq!(reply.json()["code"], expected);
        }
    }
}

#[tokio::test]
async fn arrays_do_not_stand_in_for_objects() {
    let world = World::new().await;
    let account = world.account().await;
    let path = "/api/reverse-proxies/services";

    for body in [
        json!({"auth": []}),
        json!({"targets": [[]]}),
        json!({"targets": {}}),
        json!({"auth": {"password_auth": []}}),
        json!({"listen_port": "80"}),
    ] {
        let reply = call(&world, &account, "POST", path, body.clone()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}: {}", reply.text);
    }
}

#[tokio::test]
async fn things_of_another_account_are_not_found() {
    let world = World::new().await;
    let (account, other) = (world.account().await, world.account().await);
    let peer = world.peer(&account, "peer1", 7).await;
    world.proxy("proxy.test", None).await;
    let service = json!({"name": "w", "domain": "w.proxy.test", "targets": [
        {"target_id": peer.as_str(), "target_type": "peer", "protocol": "http", "port": 80, "enabled": true}]});
    let made = call(
        &world,
        &account,
        "POST",
        "/api/reverse-proxies/services",
        service.clone(),
    )
    .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let service_path = format!(
        "/api/reverse-proxies/services/{}",
        made.json()["id"].as_str().unwrap()
    );
    let group_path = format!("/api/groups/{}", account.all);
    let peer_path = format!("/api/peers/{peer}");

    for (method, path, kind) in [
        ("GET", &service_path, "service"),
        ("PUT", &service_path, "service"),
        ("DELETE", &service_path, "service"),
        ("GET", &group_path, "group"),
        ("GET", &peer_path, "peer"),
        ("DELETE", &peer_path, "peer"),
    ] {
        let body = if method == "PUT" {
            service.clone()
        } else {
            Value::Null
        };
        let reply = call(&world, &other, method, path, body).await;
        reply.assert_error(404, &format!("{kind} not found"));
    }
}

#[tokio::test]
async fn the_current_user_knows_every_module() {
    let world = World::new().await;
    let account = world.account().await;

    let user = call(&world, &account, "GET", "/api/users/current", Value::Null)
        .await
        .json();

    assert_eq!(user["email"], "a@example.test");
    assert_eq!(user["role"], "owner");
    let modules = user["permissions"]["modules"].as_object().unwrap();
    assert_eq!(modules.len(), 24);
    assert_eq!(
        modules["services"],
        json!({"read": true, "create": true, "update": true, "delete": true})
    );
    assert_eq!(modules["agent_network"]["read"], false);
}

#[tokio::test]
async fn secrets_are_never_in_an_answer() {
    let world = World::new().await;
    let account = world.account().await;
    let peer = world.peer(&account, "peer1", 7).await;
    world.proxy("proxy.test", None).await;
    let service = json!({"name": "w", "domain": "w.proxy.test",
        "auth": {"password_auth": {"enabled": true, "password": "hunter2"}, "pin_auth": {"enabled": true, "pin": "987654"},
            "header_auths": [{"enabled": true, "header": "X-K", "value": "opensesame"}], "link_auth": {"enabled": true}},
        "targets": [{"target_id": peer.as_str(), "target_type": "peer", "port": 80, "enabled": true,
            "options": {"request_timeout": "90s"}}]});

    let made = call(&world, &account, "POST", "/api/reverse-proxies/services", service).await;
    let listed = call(
        &world,
        &account,
        "GET",
        "/api/reverse-proxies/services",
        Value::Null,
    )
    .await;

    for reply in [&made, &listed] {
        for secret in ["hunter2", "987654", "opensesame", "argon2", "session"] {
            assert!(!reply.text.contains(secret), "{secret}: {}", reply.text);
        }
    }
    let answer = made.json();
    assert_eq!(
        answer["auth"]["password_auth"],
        json!({"enabled": true, "password": ""})
    );
    assert_eq!(answer["auth"].get("link_auth"), None);
    assert_eq!(answer["targets"][0]["options"]["request_timeout"], "1m30s");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_change_untold() {
    let world = World::new().await;
    let account = world.account().await;
    let peer = world.peer(&account, "peer1", 7).await;
    world.proxy("proxy.test", None).await;
    let mut news = world.state.changes.subscribe();
    let service = json!({"name": "w", "domain": "w.proxy.test", "enabled": true,
        "auth": {"password_auth": {"enabled": true, "password": "hunter2"}},
        "targets": [{"target_id": peer.as_str(), "target_type": "peer", "port": 80, "enabled": true}]});

    let request = call(&world, &account, "POST", "/api/reverse-proxies/services", service);
    let gone = futures::future::poll_immediate(request).await;
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), news.recv()).await;

    assert!(gone.is_none());
    let Change::Service { service, .. } = told.unwrap().unwrap() else {
        panic!("another change")
    };
    let stored = world.state.store.service(&account.scope, &service).await.unwrap();
    assert!(stored.is_some());
}
