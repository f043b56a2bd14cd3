//! Every REST route and every gRPC method, with what nobody, a stranger and the owner get from it.

use meshgate_tests::deployment::Published;
use meshgate_tests::grpc::{self, Proto};
use meshgate_tests::websocket::Socket;
use meshgate_tests::{Access, Demo, Deployment, HttpVersion, Rest, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// A well-formed id of nothing.
const NO_ID: &str = "d0000000000000000000";

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

/// A method of the proxy service.
struct Rpc {
    name: &'static str,
    request: fn(&Target) -> Proto,
    /// What a proxy of the account may get; none stands for a stream that stays open.
    own: &'static [Option<u16>],
    /// Whether the request names an account, so that another account's proxy is told off.
    scoped: bool,
}

/// What requests are about.
struct Target {
    account: String,
    service: String,
    domain: String,
    cluster: String,
}

const UNIMPLEMENTED: &[Option<u16>] = &[Some(12)];

fn methods() -> Vec<Rpc> {
    vec![
        Rpc {
            name: "SyncMappings",
            request: |target| Proto::new().message(1, &hello(target)),
            own: &[None, Some(0)],
            scoped: false,
        },
        Rpc {
            name: "GetMappingUpdate",
            request: hello,
            own: &[None, Some(0)],
            scoped: false,
        },
        Rpc {
            name: "SendAccessLog",
            request: |target| {
                let log = Proto::new()
                    .text(2, NO_ID)
                    .text(3, &target.account)
                    .text(4, &target.service);
                Proto::new().message(1, &log.text(5, &target.domain))
            },
            own: &[Some(0)],
            scoped: true,
        },
        Rpc {
            name: "Authenticate",
            request: |target| {
                let pin = Proto::new().text(1, "wrong");
                Proto::new()
                    .text(1, &target.service)
                    .text(2, &target.account)
                    .message(4, &pin)
            },
            own: &[Some(0)],
            scoped: true,
        },
        Rpc {
            name: "SendStatusUpdate",
            request: |target| Proto::new().text(1, &target.service).text(2, &target.account),
            own: &[Some(0)],
            scoped: true,
        },
        Rpc {
            name: "CreateProxyPeer",
            request: |target| {
                let request = Proto::new()
                    .text(1, &target.service)
                    .text(2, &target.account)
                    .text(3, "no token");
                request
                    .text(4, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=")
                    .text(5, &target.cluster)
            },
            // The caller is known, the one-time token is not.
            own: &[Some(16)],
            scoped: true,
        },
        Rpc {
            name: "GetOIDCURL",
            request: |target| {
                let request = Proto::new().text(1, &target.service).text(2, &target.account);
                request.text(3, format!("https://{}/", target.domain))
            },
            own: &[Some(12), Some(9)],
            scoped: true,
        },
        Rpc {
            name: "ValidateSession",
            request: |target| Proto::new().text(1, &target.domain).text(2, "no session"),
            own: &[Some(0)],
            scoped: false,
        },
        Rpc {
            name: "ValidateTunnelPeer",
            request: |target| Proto::new().text(1, "100.64.0.1").text(2, &target.domain),
            own: &[Some(0)],
            scoped: false,
        },
        Rpc {
            name: "CheckLLMPolicyLimits",
            request: |_| Proto::new(),
            own: UNIMPLEMENTED,
            scoped: false,
        },
        Rpc {
            name: "RecordLLMUsage",
            request: |_| Proto::new(),
            own: UNIMPLEMENTED,
            scoped: false,
        },
    ]
}

#[tokio::test]
async fn proxy_methods_open_for_proxy_tokens_alone() {
    let deployment = Deployment::start().await;
    let service = deployment.publish("doors", Access::Pin("282842")).await;
    let own = Target {
        account: account(&deployment).await,
        service: service.id.clone(),
        domain: service.domain.clone(),
        cluster: "doors.test".to_owned(),
    };
    let foreign = Target {
        account: NO_ID.to_owned(),
        cluster: "foreign.test".to_owned(),
        ..target(&service)
    };
    let made = deployment
        .rest()
        .post("/api/reverse-proxies/proxy-tokens", &json!({ "name": "doors" }))
        .await
        .unwrap();
    let token = format!("Bearer {}", made["plain_token"].as_str().unwrap());
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    for method in methods() {
        let path = format!("/management.ProxyService/{}", method.name);
        for authorization in [None, Some("Bearer nbp_x"), Some("Token nbx_x")] {
            let metadata: Vec<(&str, &str)> = authorization
                .map(|value| ("authorization", value))
                .into_iter()
                .collect();
            let ended = grpc::call(server, &path, &metadata, &(method.request)(&own))
                .await
                .unwrap();
            // 8: too many failures from this address, which does not hold a good token back.
            assert!(
                matches!(ended.status, Some(16 | 8)),
                "{path} with {authorization:?}: {ended:?}"
            );
            assert!(!ended.answered, "{path}: {ended:?}");
        }
        let with_token = [("authorization", token.as_str())];
        let ended = grpc::call(server, &path, &with_token, &(method.request)(&own))
            .await
            .unwrap();
        assert!(
            method.own.contains(&ended.status),
            "{path} for the owner: {ended:?}"
        );
        if method.scoped {
            let ended = grpc::call(server, &path, &with_token, &(method.request)(&foreign))
                .await
                .unwrap();
            assert_eq!(ended.status, Some(7), "{path} for another account: {ended:?}");
        }
    }
}

#[tokio::test]
async fn first_call_without_a_token_is_unauthenticated() {
    let deployment = Deployment::start().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();

    let ended = grpc::call(
        server,
        "/management.ProxyService/SyncMappings",
        &[],
        &Proto::new(),
    )
    .await
    .unwrap();

    assert_eq!((ended.http_status, ended.status), (200, Some(16)), "{ended:?}");
}

#[tokio::test]
async fn peer_methods_take_sealed_messages_alone() {
    let deployment = Deployment::shared().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    let envelope = Proto::new().text(1, "not a key").text(2, [0_u8; 64]);
    let sealed_by_nobody = Proto::new()
        .text(1, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=")
        .text(2, [7_u8; 64]);
    for method in ["Login", "Sync", "SyncMeta", "Logout"] {
        for request in [&Proto::new(), &envelope, &sealed_by_nobody] {
            let path = format!("/management.ManagementService/{method}");
            let ended = grpc::call(server, &path, &[], request).await.unwrap();
            assert_eq!(ended.status, Some(3), "{path}: {ended:?}");
        }
    }
    for method in [
        "GetDeviceAuthorizationFlow",
        "GetPKCEAuthorizationFlow",
        "Job",
        "ExtendAuthSession",
        "CreateExpose",
        "RenewExpose",
        "StopExpose",
    ] {
        let path = format!("/management.ManagementService/{method}");
        let ended = grpc::call(server, &path, &[], &envelope).await.unwrap();
        assert!(matches!(ended.status, Some(3 | 5 | 12)), "{path}: {ended:?}");
    }
    for method in ["GetServerKey", "isHealthy"] {
        let path = format!("/management.ManagementService/{method}");
        let ended = grpc::call(server, &path, &[], &Proto::new()).await.unwrap();
        assert_eq!(ended.status, Some(0), "{path}: {ended:?}");
    }
}

#[tokio::test]
async fn signal_takes_known_peers_alone() {
    let deployment = Deployment::shared().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    let path = "/signalexchange.SignalExchange/ConnectStream";
    for metadata in [
        [].as_slice(),
        &[("x-wiretrustee-peer-id", "not a key")],
        &[(
            "x-wiretrustee-peer-id",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=",
        )],
    ] {
        let ended = grpc::call(server, path, metadata, &Proto::new()).await.unwrap();
        assert_eq!(ended.status, Some(9), "{metadata:?}: {ended:?}");
    }
    let sent = grpc::call(server, "/signalexchange.SignalExchange/Send", &[], &Proto::new())
        .await
        .unwrap();
    assert_eq!(
        sent.status,
        Some(0),
        "a message to nobody is passed over: {sent:?}"
    );
}

#[tokio::test]
async fn unknown_grpc_services_and_methods_are_unimplemented() {
    let deployment = Deployment::shared().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    for path in [
        "/management.ManagementService/Nothing",
        "/nothing.Nothing/Nothing",
    ] {
        let ended = grpc::call(server, path, &[], &Proto::new()).await.unwrap();
        assert_eq!(ended.status, Some(12), "{path}: {ended:?}");
    }
}

#[tokio::test]
async fn relay_takes_known_peers_alone() {
    let deployment = Deployment::shared().await;
    let url = format!("{}/relay", deployment.management_url());
    let plain = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(&url)
        .send()
        .await
        .unwrap();
    assert!(plain.status().is_client_error(), "{plain:?}");

    let mut forged = vec![1, 6, 0x21, 0x12, 0xa4, 0x42];
    forged.extend_from_slice(b"sha-");
    forged.extend_from_slice(&[9; 32]);
    forged.push(1);
    forged.extend_from_slice(&[0; 32]);
    forged.extend_from_slice(b"9999999999");
    for first in [
        vec![],
        vec![1, 3, 0],
        vec![9, 9, 9],
        vec![1, 6],
        forged,
        vec![0; 9000],
    ] {
        let mut socket = Socket::open_plain(&url.replace("http", "ws")).await.unwrap();
        let _ = socket.send(Message::binary(first.clone())).await;
        let ended = socket.receive().await;
        let closed = matches!(ended, Ok(None | Some(Message::Close(_))))
            || ended.as_ref().is_err_and(|e| e != "nothing came");
        assert!(closed, "{first:?}: {ended:?}");
    }
}

/// The account that the proxy has a tunnel of.
async fn account(deployment: &Deployment) -> String {
    eventually("the proxy has a tunnel", async || {
        let (_, text) = deployment.health("/healthz").await?;
        let health: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let clients = health["clients"]
            .as_object()
            .and_then(|clients| clients.keys().next().cloned());
        clients.ok_or(text)
    })
    .await
}

fn hello(target: &Target) -> Proto {
    Proto::new()
        .text(1, format!("door-{}", target.cluster))
        .text(2, "1.0")
        .text(4, &target.cluster)
}

fn target(service: &Published) -> Target {
    Target {
        account: String::new(),
        service: service.id.clone(),
        domain: service.domain.clone(),
        cluster: String::new(),
    }
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
