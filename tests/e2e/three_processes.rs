//! Management, proxy and agent as processes of their own, set up with `meshgate admin` and REST alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use meshgate_tests::client::shorten;
use meshgate_tests::deployment::Published;
use meshgate_tests::login::{fetch_with, log_in};
use meshgate_tests::process::run;
use meshgate_tests::{Access, Client, Deployment, HttpVersion, Part, eventually, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// Clients that ask without a pause while management is away.
const CLIENTS: usize = 4;

/// Requests that must be answered while it is away, and again after its return.
const REQUESTS: usize = 1000;

/// How long it stays away at least: longer than any part waits for a sign of life of another.
const AWAY: Duration = Duration::from_secs(8);

/// Longest wait for the requests on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

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

#[tokio::test]
async fn management_killed_under_load_is_not_noticed_by_visitors() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut deployment = Deployment::start().await;
    let open = deployment.publish("load", Access::Open).await;
    let pin = deployment.publish("load-pin", Access::Pin("141421")).await;
    let client = deployment.client(HttpVersion::H1);
    let session = log_in(&client, &pin.domain, "/", "141421").await.cookie();
    let state = state(&deployment).await;
    let mut load = Load::start(&deployment, &open, &pin, &session);
    let mut socket = deployment.websocket(&open.domain, "/socket").await.unwrap();
    let stream = client
        .get(&open.domain, "/events/outage")
        .timeout(Duration::from_mins(10))
        .send()
        .await
        .unwrap();
    let mut stream = stream.bytes_stream();

    // Management is also the relay: what must outlive it has to take the direct path first.
    eventually("two peers on one machine take the direct path", async || {
        direct(&deployment).await
    })
    .await;
    for away in [true, false] {
        if away {
            deployment.kill(Part::Management);
        } else {
            deployment.launch(Part::Management);
            deployment.up(Part::Management).await;
        }
        load.answers(REQUESTS, if away { AWAY } else { Duration::ZERO })
            .await;
        socket
            .echo(Message::text(format!("management away: {away}")))
            .await
            .unwrap();
        assert_eq!(deployment.origin.send_event("outage", "still here"), 1);
        let event = tokio::time::timeout(Duration::from_secs(20), stream.next())
            .await
            .expect("the event comes");
        assert!(String::from_utf8_lossy(&event.unwrap().unwrap()).contains("still here"));
    }

    assert_eq!(self::state(&deployment).await, state, "nothing was lost");
    let what = "a service made after the return answers";
    eventually("the proxy is back on the cluster list", async || {
        online(&deployment).await
    })
    .await;
    let service = deployment.publish("late", Access::Open).await;
    eventually(what, async || client.expect(&service.domain, "/", 200).await).await;
    socket.echo(Message::text("the same socket")).await.unwrap();
    load.finish().await;
    socket.close().await.unwrap();
}

#[tokio::test]
async fn new_logins_fail_closed_while_management_is_away() {
    let mut deployment = Deployment::start().await;
    let pin = deployment.publish("closed-pin", Access::Pin("173205")).await;
    let client = deployment.client(HttpVersion::H1);
    deployment.kill(Part::Management);

    let login = log_in(&client, &pin.domain, "/", "173205").await;
    assert_eq!((login.status, &login.set_cookie), (503, &None), "{}", login.body);

    deployment.launch(Part::Management);
    eventually("logins work again", async || {
        match log_in(&client, &pin.domain, "/", "173205").await.status {
            303 => Ok(()),
            status => Err(format!("{status}")),
        }
    })
    .await;
}

#[tokio::test]
async fn revoked_token_lets_the_proxy_serve_on_and_back_off() {
    let mut deployment = Deployment::start().await;
    let service = deployment.publish("revoked", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let data = deployment.data_dir();
    let list = run(&["admin", "token", "list", "--data-dir", &data], &[]).await;
    assert_eq!(list.code, Some(0), "{list:?}");
    assert!(
        !list.stdout.contains(&deployment.keys.proxy_token),
        "a list shows no secrets"
    );
    let id = list
        .stdout
        .split_whitespace()
        .find(|word| is_xid(word))
        .expect("the list names the token's id");

    let revoked = run(&["admin", "token", "revoke", "--data-dir", &data, id], &[]).await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    deployment.stop(Part::Management).await;
    deployment.launch(Part::Management);
    deployment.up(Part::Management).await;

    eventually(
        "the proxy says what is wrong and that it tries again",
        async || {
            let log = deployment.process(Part::Proxy).log();
            let told = log
                .lines()
                .filter(|line| line.contains("token") && line.contains("retry"))
                .count();
            if told >= 2 {
                Ok(())
            } else {
                Err(format!("{told} lines"))
            }
        },
    )
    .await;
    assert!(
        client.expect(&service.domain, "/", 200).await.is_ok(),
        "what was published goes on"
    );
    assert!(
        !deployment
            .process(Part::Proxy)
            .log()
            .contains(&deployment.keys.proxy_token),
        "logs hold no secrets"
    );
}

/// Clients that never stop asking; the first wrong answer fails the test.
struct Load {
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(deployment: &Deployment, open: &Published, pin: &Published, session: &str) -> Self {
        let (answered, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = deployment.client(HttpVersion::ALL[number % 2]);
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            let (open, pin, session) = (open.domain.clone(), pin.domain.clone(), session.to_owned());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.expect(&open, "/load", 200).await;
                    assert!(answer.is_ok(), "client {number}: {answer:?}");
                    let (status, body) = fetch_with(&client, &pin, "/load", &session).await;
                    assert_eq!(status, 200, "client {number}, with a session: {}", shorten(&body));
                    answered.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        Self {
            answered,
            stop,
            clients,
        }
    }

    /// Waits until so many more requests were answered for so long.
    async fn answers(&mut self, more: usize, at_least: Duration) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        let begin = Instant::now();
        within(
            PATIENCE,
            &format!("{more} more requests are answered"),
            async || {
                let failed = self.clients.try_join_next();
                assert!(failed.is_none(), "a client ended: {failed:?}");
                let answered = self.answered.load(Ordering::Relaxed);
                if answered >= goal && begin.elapsed() >= at_least {
                    Ok(())
                } else {
                    Err(format!("{answered} of {goal} after {:?}", begin.elapsed()))
                }
            },
        )
        .await;
    }

    async fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("every request was answered");
        }
        println!("{} requests answered", self.answered.load(Ordering::Relaxed));
    }
}

/// What the API shows, without what changes by itself.
async fn state(deployment: &Deployment) -> Value {
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

async fn direct(deployment: &Deployment) -> Result<(), String> {
    let (_, text) = deployment.health("/healthz").await?;
    let health: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    let mut tunnels = health["clients"]
        .as_object()
        .into_iter()
        .flat_map(|clients| clients.values());
    let is_direct = tunnels.any(|tunnel| tunnel["peers_p2p"].as_u64().is_some_and(|peers| peers > 0));
    if is_direct { Ok(()) } else { Err(text) }
}

async fn online(deployment: &Deployment) -> Result<(), String> {
    let clusters = deployment.rest().get("/api/reverse-proxies/clusters").await?;
    if clusters[0]["online"] == true {
        Ok(())
    } else {
        Err(clusters.to_string())
    }
}

fn is_xid(word: &str) -> bool {
    word.len() == 20
        && word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'v').contains(&byte))
}
