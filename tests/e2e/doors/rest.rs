//! The doors of the REST API, and of the proxy's health address.

use meshgate_tests::{Access, Demo, Deployment, HttpVersion, Rest};
use reqwest::Method;
use serde_json::{Value, json};

use super::NO_ID;

/// REST routes: method, path, and what the owner gets for an id that exists nowhere, or without a body.
const ROUTES: &[(&str, &str, u16)] = &[
    ("GET", "/api/setup-keys", 200),
    ("POST", "/api/setup-keys", 400),
    ("GET", "/api/setup-keys/{id}", 404),
    ("PUT", "/api/setup-keys/{id}", 400),
    ("DELETE", "/api/setup-keys/{id}", 404),
    ("GET", "/api/peers", 200),
    ("GET", "/api/peers/{id}", 404),
    ("DELETE", "/api/peers/{id}", 404),
    ("GET", "/api/groups", 200),
    ("GET", "/api/groups/{id}", 404),
    ("GET", "/api/reverse-proxies/services", 200),
    ("POST", "/api/reverse-proxies/services", 400),
    ("GET", "/api/reverse-proxies/services/{id}", 404),
    ("PUT", "/api/reverse-proxies/services/{id}", 400),
    ("DELETE", "/api/reverse-proxies/services/{id}", 404),
    ("GET", "/api/reverse-proxies/proxy-tokens", 200),
    ("POST", "/api/reverse-proxies/proxy-tokens", 400),
    ("DELETE", "/api/reverse-proxies/proxy-tokens/{id}", 404),
    ("GET", "/api/reverse-proxies/clusters", 200),
    ("GET", "/api/events/proxy", 200),
    ("GET", "/api/users/current", 200),
];

#[tokio::test]
async fn rest_routes_open_for_the_owner_alone() {
    let deployment = Deployment::shared().await;
    let stranger = Demo::shared().await.ready.api_token.clone();
    let url = deployment.management_url();
    let caller = |authorization: &str| Rest::with_authorization(&url, Some(authorization.to_owned()));
    let own = &deployment.keys.api_token;
    let strangers = [
        (Rest::nobody(&url), "no valid authentication provided"),
        (
            caller(&format!("Basic {own}")),
            "no valid authentication provided",
        ),
        (caller("Token nbp_garbage"), "token invalid"),
        (
            caller("Token nbp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0uCPlr"),
            "token invalid",
        ),
        (caller(&format!("Token {stranger}")), "token invalid"),
        (
            caller(&format!("Token {}", deployment.keys.proxy_token)),
            "token invalid",
        ),
        (
            caller("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."),
            "token invalid",
        ),
    ];
    for (method, path, expected) in ROUTES {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = path.replace("{id}", NO_ID);
        for (stranger, message) in &strangers {
            let answer = stranger.call(method.clone(), &path, None).await.unwrap();
            let refusal = json!({ "code": 401, "message": message });
            assert_eq!(
                (answer.status, &answer.body),
                (401, &refusal),
                "{method} {path} for {stranger:?}"
            );
        }
        for scheme in ["Token", "Bearer", "token"] {
            let answer = caller(&format!("{scheme} {own}"))
                .call(method.clone(), &path, None)
                .await
                .unwrap();
            assert_eq!(answer.status, *expected, "{method} {path}: {}", answer.body);
            if *expected >= 400 {
                assert_eq!(answer.body["code"], *expected, "{method} {path}: {}", answer.body);
            }
            if *expected == 404 {
                assert!(
                    answer.body["message"]
                        .as_str()
                        .is_some_and(|text| text.contains("not found")),
                    "{answer:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn open_rest_routes_tell_nothing_of_worth() {
    let deployment = Deployment::shared().await;
    let nobody = Rest::nobody(&deployment.management_url());
    for path in ["/api/instance", "/api/instance/version"] {
        let answer = nobody.call(Method::GET, path, None).await.unwrap();
        assert!(matches!(answer.status, 200 | 401), "{path}: {answer:?}");
        for secret in [
            &deployment.keys.api_token,
            &deployment.keys.proxy_token,
            &deployment.keys.setup_key,
        ] {
            assert!(!answer.body.to_string().contains(secret), "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_route_is_plain_not_found_for_everybody() {
    let deployment = Deployment::shared().await;
    let url = deployment.management_url();
    for rest in [Rest::nobody(&url), deployment.rest()] {
        for (method, path) in [
            (Method::GET, "/api/nothing"),
            (Method::GET, "/api/reverse-proxies/services/"),
            (Method::PATCH, "/api/peers"),
            (Method::POST, "/api/peers"),
            (Method::DELETE, "/api/groups"),
            (Method::GET, "/api/reverse-proxies/proxy-tokens/x"),
            (Method::GET, "/etc/passwd"),
            (Method::GET, "/api/../store.db"),
        ] {
            let answer = rest.call(method.clone(), path, None).await.unwrap();
            assert_eq!(
                (answer.status, &answer.body),
                (404, &Value::Null),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn bodies_that_are_not_understood_are_refused() {
    let deployment = Deployment::shared().await;
    let rest = deployment.rest();
    let good = deployment.service_request("refused", Access::Open).await;
    let with = |field: &str, value: Value| {
        let mut request = good.clone();
        request[field] = value;
        request
    };
    let target = |field: &str, value: Value| {
        let mut request = good.clone();
        request["targets"][0][field] = value;
        request
    };
    for (request, status) in [
        (json!([]), 400),
        (json!("text"), 400),
        (json!({ "name": 5 }), 400),
        (Value::Null, 422),
        (json!({}), 422),
        (with("name", "".into()), 422),
        (with("domain", "".into()), 422),
        (with("domain", "bad domain.proxy.test".into()), 422),
        (with("domain", "x.unknown.test".into()), 412),
        (with("mode", "ftp".into()), 422),
        (with("listen_port", 8080.into()), 422),
        (with("targets", json!([])), 422),
        (
            with("auth", json!({ "pin_auth": { "enabled": true, "pin": "" } })),
            422,
        ),
        (
            with("access_restrictions", json!({ "allowed_cidrs": ["10.0.0.1/8"] })),
            422,
        ),
        (
            with("access_restrictions", json!({ "blocked_cidrs": ["nonsense"] })),
            422,
        ),
        (target("target_id", NO_ID.into()), 422),
        (target("target_type", "cloud".into()), 422),
        (target("protocol", "ftp".into()), 422),
        (target("port", 0.into()), 422),
        (target("port", 70_000.into()), 422),
        (
            target("options", json!({ "custom_headers": { "Host": "x" } })),
            422,
        ),
        (
            target("options", json!({ "custom_headers": { "X-A": "a\r\nb" } })),
            422,
        ),
    ] {
        let answer = rest
            .call(Method::POST, "/api/reverse-proxies/services", Some(&request))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        assert_eq!(answer.body["code"], status, "{request}: {}", answer.body);
    }
    let taken = deployment.publish("taken", Access::Open).await;
    for domain in [taken.domain.clone(), taken.domain.to_uppercase()] {
        let answer = rest
            .call(
                Method::POST,
                "/api/reverse-proxies/services",
                Some(&with("domain", domain.into())),
            )
            .await;
        assert_eq!(answer.unwrap().status, 409);
    }
    let agent = deployment.agent_peer().await["id"].as_str().unwrap().to_owned();
    let in_use = rest
        .call(Method::DELETE, &format!("/api/peers/{agent}"), None)
        .await
        .unwrap();
    assert_eq!(
        in_use.status, 412,
        "a peer that services lead to is not deleted: {in_use:?}"
    );
}

#[tokio::test]
async fn secrets_are_shown_once() {
    let deployment = Deployment::shared().await;
    let rest = deployment.rest();
    let request = json!({ "name": "shown once", "type": "reusable", "expires_in": 0, "auto_groups": [], "usage_limit": 0 });
    let key = rest.post("/api/setup-keys", &request).await.unwrap();
    let token = rest
        .post(
            "/api/reverse-proxies/proxy-tokens",
            &json!({ "name": "shown once" }),
        )
        .await
        .unwrap();
    let service = deployment.publish("shown-once", Access::Pin("264575")).await;

    let mut shown = String::new();
    for path in [
        "/api/setup-keys",
        &format!("/api/setup-keys/{}", key["id"].as_str().unwrap()),
        "/api/reverse-proxies/proxy-tokens",
        "/api/reverse-proxies/services",
        &format!("/api/reverse-proxies/services/{}", service.id),
    ] {
        shown.push_str(&rest.get(path).await.unwrap().to_string());
    }

    let (key, token) = (
        key["key"].as_str().unwrap(),
        token["plain_token"].as_str().unwrap(),
    );
    for secret in [key, token, "264575", "$argon2"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains(&format!("{}****", &key[..5])), "{shown}");
}

#[tokio::test]
async fn health_address_shows_no_secrets() {
    let deployment = Deployment::shared().await;
    deployment.publish("healthy", Access::Open).await;
    for path in [
        "/healthz",
        "/healthz/live",
        "/healthz/ready",
        "/healthz/startup",
        "/metrics",
    ] {
        let (status, text) = deployment.health(path).await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        assert!(!text.contains(&deployment.keys.proxy_token), "{path}");
    }
    let client = deployment.client(HttpVersion::H1);
    let inside = client.expect("healthy.proxy.test", "/healthz", 200).await;
    assert!(
        inside.is_ok_and(|text| text.contains("\"method\"")),
        "the edge leaves the path to the application"
    );
}
