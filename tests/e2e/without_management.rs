//! Management goes away, or turns its back on the proxy: what is published goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use meshgate_tests::client::shorten;
use meshgate_tests::deployment::Published;
use meshgate_tests::login::{fetch_with, log_in};
use meshgate_tests::process::run;
use meshgate_tests::{Access, Deployment, HttpVersion, Part, eventually, within};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::three_processes::state;

/// Clients that ask without a pause while management is away.
const CLIENTS: usize = 4;

/// Requests that must be answered while it is away, and again after its return.
const REQUESTS: usize = 1000;

/// How long it stays away at least: longer than any part waits for a sign of life of another.
const AWAY: Duration = Duration::from_secs(8);

/// Longest wait for the requests on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn management_killed_under_load_is_not_noticed_by_visitors() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut deployment = Deployment::start().await;
    let open = deployment.publish("load", Access::Open).await;
    let pin = deployment.publish("load-pin", Access::Pin("141421")).await;
    let client = deployment.client(HttpVersion::H1);
    let session = log_in(&client, &pin.domain, "/", "141421").await.cookie();
    let before = state(&deployment).await;
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

    assert_eq!(state(&deployment).await, before, "nothing was lost");
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
async fn revoked_token_shuts_the_proxy_out_and_it_backs_off() {
    let deployment = Deployment::start().await;
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
    eventually("its peer is out of the mesh", async || {
        client.expect(&service.domain, "/", 502).await
    })
    .await;
    let [live, ready] = ["/healthz/live", "/healthz/ready"];
    assert_eq!(
        deployment.health(live).await.unwrap().0,
        200,
        "the process runs on"
    );
    assert_eq!(
        deployment.health(ready).await.unwrap().0,
        503,
        "load balancers take it out"
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
