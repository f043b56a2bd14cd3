//! The doors of the service that proxies call.

use meshgate_tests::deployment::Published;
use meshgate_tests::grpc::{self, Proto};
use meshgate_tests::{Access, Deployment, eventually};
use serde_json::{Value, json};

use super::NO_ID;

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
            request: access_log,
            own: &[Some(0)],
            scoped: true,
        },
        Rpc {
            name: "SendAccessLogs",
            request: access_log,
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

/// A line of the access log, or several of them: both messages hold lines in the same field.
fn access_log(target: &Target) -> Proto {
    let log = Proto::new()
        .text(2, NO_ID)
        .text(3, &target.account)
        .text(4, &target.service);
    Proto::new().message(1, &log.text(5, &target.domain))
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
