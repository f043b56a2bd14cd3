//! Management, proxy and agent as processes of their own, set up with `meshgate admin` and REST alone.

use meshgate_tests::client::shorten;
use meshgate_tests::deployment::Published;
use meshgate_tests::login::{fetch_with, log_in};
use meshgate_tests::{Access, Client, Deployment, HttpVersion, Part, eventually};
use serde_json::{Value, json};

/// What the API shows of the state.
const STATE: [&str; 5] = [
    "/api/reverse-proxies/services",
    "/api/peers",
    "/api/setup-keys",
    "/api/groups",
    "/api/reverse-proxies/proxy-tokens",
];

#[tokio::test]
async fn setup_with_admin_and_rest_publishes_all_kinds_of_services() {
    let deployment = Deployment::shared().await;
    let open = deployment.publish("three-open", Access::Open).await;
    let pin = deployment.publish("three-pin", Access::Pin("314159")).await;
    let secret = deployment
        .publish("three-secret", Access::Password("correct horse"))
        .await;

    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        assert!(client.expect(&open.domain, "/", 200).await.is_ok());
        for (service, right) in [(&pin, "314159"), (&secret, "correct horse")] {
            assert_eq!(log_in(&client, &service.domain, "/", "wrong").await.status, 401);
            let session = log_in(&client, &service.domain, "/", right).await.cookie();
            assert_eq!(fetch_with(&client, &service.domain, "/", &session).await.0, 200);
        }
    }
    for service in [open, pin, secret] {
        status_becomes(&deployment, &service, "active").await;
    }
}

#[tokio::test]
async fn changes_of_a_service_reach_the_edge() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("changing", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let rest = deployment.rest();
    let path = format!("/api/reverse-proxies/services/{}", service.id);

    let with_pin = deployment
        .service_request("changing", Access::Pin("271828"))
        .await;
    rest.put(&path, &with_pin).await.unwrap();
    eventually("a login is asked for", async || {
        client.expect(&service.domain, "/", 401).await
    })
    .await;
    let session = log_in(&client, &service.domain, "/", "271828").await.cookie();
    assert_eq!(fetch_with(&client, &service.domain, "/", &session).await.0, 200);

    let mut moved = with_pin.clone();
    moved["domain"] = "moved.proxy.test".into();
    rest.put(&path, &moved).await.unwrap();
    eventually("the new name answers", async || {
        client.expect("moved.proxy.test", "/", 401).await
    })
    .await;
    eventually("the old name is gone", async || {
        gone(&client, &service.domain).await
    })
    .await;

    let mut disabled = moved.clone();
    disabled["enabled"] = false.into();
    rest.put(&path, &disabled).await.unwrap();
    eventually("the disabled service is gone", async || {
        gone(&client, "moved.proxy.test").await
    })
    .await;

    rest.put(&path, &moved).await.unwrap();
    eventually("the enabled service is back", async || {
        client.expect("moved.proxy.test", "/", 401).await
    })
    .await;
    rest.delete(&path).await.unwrap();
    eventually("the deleted service is gone", async || {
        gone(&client, "moved.proxy.test").await
    })
    .await;
    assert!(rest.get(&path).await.unwrap_err().contains("404"));
}

#[tokio::test]
async fn each_process_restarts_in_turn_and_everything_is_as_before() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut deployment = Deployment::start().await;
    let open = deployment.publish("restart", Access::Open).await;
    let pin = deployment.publish("restart-pin", Access::Pin("161803")).await;
    let session = log_in(&deployment.client(HttpVersion::H1), &pin.domain, "/", "161803")
        .await
        .cookie();
    let state = state(&deployment).await;

    for part in [Part::Management, Part::Proxy, Part::Agent] {
        deployment.stop(part).await;
        deployment.launch(part);
        deployment.up(part).await;

        let client = deployment.client(HttpVersion::H2);
        let what = format!("the service answers after a restart of {part}");
        eventually(&what, async || client.expect(&open.domain, "/", 200).await).await;
        let (status, body) = fetch_with(&client, &pin.domain, "/", &session).await;
        assert_eq!(
            status,
            200,
            "the session outlives a restart of {part}: {}",
            shorten(&body)
        );
        assert_eq!(self::state(&deployment).await, state, "after a restart of {part}");
    }
}

#[tokio::test]
async fn proxy_restart_keeps_its_peer() {
    let mut deployment = Deployment::start().await;
    let service = deployment.publish("ghost", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let (address, peers) = (
        proxy_address(&deployment).await,
        allocated_addresses(&deployment).await,
    );

    for way in ["stopped", "killed"] {
        match way {
            "stopped" => deployment.stop(Part::Proxy).await,
            _ => deployment.kill(Part::Proxy),
        }
        deployment.launch(Part::Proxy);
        let what = format!("the service answers after the proxy was {way}");
        eventually(&what, async || client.expect(&service.domain, "/", 200).await).await;

        assert_eq!(proxy_address(&deployment).await, address, "{way}");
        assert_eq!(
            allocated_addresses(&deployment).await,
            peers,
            "{way}: no ghost is left"
        );
    }
}

#[tokio::test]
async fn agent_restart_keeps_its_peer() {
    let mut deployment = Deployment::start().await;
    let before = deployment.agent_peer().await;

    deployment.kill(Part::Agent);
    deployment.launch(Part::Agent);
    deployment.up(Part::Agent).await;

    let after = deployment.agent_peer().await;
    assert_eq!((&after["id"], &after["ip"]), (&before["id"], &before["ip"]));
    let key = deployment.rest().get("/api/setup-keys").await.unwrap();
    assert_eq!(
        key[0]["used_times"], 1,
        "a known machine does not use its key again: {key}"
    );
}

/// What the API shows, without what changes by itself.
pub(crate) async fn state(deployment: &Deployment) -> Value {
    let rest = deployment.rest();
    deployment.agent_peer().await;
    let mut state = json!({});
    for path in STATE {
        let mut list = eventually(path, async || rest.get(path).await).await;
        for object in list
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            for volatile in [
                "meta",
                "last_seen",
                "last_login",
                "last_used",
                "connected",
                "connection_ip",
            ] {
                object.remove(volatile);
            }
        }
        state[path] = list;
    }
    state
}

/// The overlay address of the proxy's peer, from its health page.
async fn proxy_address(deployment: &Deployment) -> String {
    eventually("the proxy shows its overlay address", async || {
        let (_, text) = deployment.health("/healthz").await?;
        let health: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let clients = health["clients"].as_object().ok_or_else(|| text.clone())?;
        let address = clients.values().find_map(|client| client["address"].as_str());
        address.map(str::to_owned).ok_or(text)
    })
    .await
}

/// How many addresses of the overlay network are taken: a new peer would get another one.
async fn allocated_addresses(deployment: &Deployment) -> Value {
    let clusters = deployment
        .rest()
        .get("/api/reverse-proxies/clusters")
        .await
        .expect("clusters are listed");
    let agents = deployment
        .rest()
        .get("/api/peers")
        .await
        .expect("peers are listed");
    let agents = agents.as_array().map(Vec::len);
    json!({ "proxies": clusters[0]["connected_proxies"], "agents": agents })
}

async fn status_becomes(deployment: &Deployment, service: &Published, status: &str) {
    let rest = deployment.rest();
    eventually(&format!("{} is {status}", service.domain), async || {
        let service = rest
            .get(&format!("/api/reverse-proxies/services/{}", service.id))
            .await?;
        if service["meta"]["status"] == status {
            Ok(())
        } else {
            Err(service.to_string())
        }
    })
    .await;
}

/// A name is gone when the edge knows no certificate for it, or no service.
async fn gone(client: &Client, domain: &str) -> Result<(), String> {
    match client.fetch(domain, "/").await {
        Err(error) if error.contains("AlertReceived") => Ok(()),
        Ok(answer) if answer.status() == 404 => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
