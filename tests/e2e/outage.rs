//! The agent goes away and comes back: visitors learn it at once, and nothing goes round the tunnel.

use std::time::{Duration, Instant};

use meshgate_tests::{Access, Client, Deployment, HttpVersion, Origin, Part, eventually, within};
use tokio::task::JoinHandle;

/// Bound of the product for an agent that says goodbye, and for one that comes.
const ANNOUNCED: Duration = Duration::from_secs(2);

/// Bound of the product for an agent that is gone without notice.
const UNANNOUNCED: Duration = Duration::from_secs(6);

/// What a busy test machine may add.
const SLACK: u32 = 2;

#[tokio::test]
async fn stopped_agent_is_told_within_two_seconds_and_its_return_too() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut deployment = Deployment::start().await;
    let service = deployment.publish("stopped", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let peer = deployment.agent_peer().await;

    let agent = deployment.take(Part::Agent);
    agent.signal("TERM");
    let gone = offline(&client, &service.domain, ANNOUNCED * SLACK).await;
    agent.ended_cleanly().await;

    deployment.launch(Part::Agent);
    let back = online(&client, &service.domain, ANNOUNCED * SLACK).await;
    println!("SIGTERM: offline after {gone:?}, back after {back:?}");
    let again = deployment.agent_peer().await;
    assert_eq!(
        (&again["id"], &again["ip"]),
        (&peer["id"], &peer["ip"]),
        "the agent is the same peer"
    );
}

#[tokio::test]
async fn no_plain_path_leads_to_the_origin() {
    let mut deployment = Deployment::start().await;
    let service = deployment.publish("plain", Access::Open).await;
    let clients = HttpVersion::ALL.map(|version| deployment.client(version));
    let before = deployment.origin.hits("/probe");
    deployment.stop(Part::Agent).await;

    for client in &clients {
        offline(client, &service.domain, ANNOUNCED * SLACK).await;
        for _ in 0..20 {
            let answer = client.expect(&service.domain, "/probe", 502).await.unwrap();
            assert!(answer.contains("peer not connected"), "{answer}");
        }
    }

    assert_eq!(
        deployment.origin.hits("/probe"),
        before,
        "nothing reached the origin"
    );
    let direct = reqwest::Client::builder().no_proxy().build().unwrap();
    let direct = direct
        .get(format!("http://{}/probe", deployment.origin.address()))
        .send()
        .await
        .unwrap();
    assert_eq!(direct.status(), 200, "the origin was there all the time");
    assert_eq!(deployment.origin.hits("/probe"), before + 1);
}

#[tokio::test]
async fn killed_agent_is_told_within_six_seconds_also_to_who_waits() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut deployment = Deployment::start().await;
    let service = deployment.publish("killed", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let waiting = waiting_requests(&deployment, &service.domain).await;

    let killed = Instant::now();
    deployment.kill(Part::Agent);
    let gone = offline(&client, &service.domain, UNANNOUNCED * SLACK).await;
    let told = told(waiting, killed).await;
    deployment.launch(Part::Agent);
    let back = online(&client, &service.domain, ANNOUNCED * SLACK).await;

    println!("SIGKILL: offline after {gone:?}, waiting requests told after {told:?}, back after {back:?}");
    assert!(told < UNANNOUNCED * SLACK, "who waited was told after {told:?}");
}

#[tokio::test]
async fn frozen_agent_is_told_within_six_seconds_also_to_who_waits() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let service = deployment.publish("frozen", Access::Open).await;
    let client = deployment.client(HttpVersion::H2);
    let waiting = waiting_requests(&deployment, &service.domain).await;

    let frozen = Instant::now();
    deployment.process(Part::Agent).signal("STOP");
    let gone = offline(&client, &service.domain, UNANNOUNCED * SLACK).await;
    let told = told(waiting, frozen).await;
    deployment.process(Part::Agent).signal("CONT");
    let back = online(&client, &service.domain, ANNOUNCED * SLACK).await;

    println!("SIGSTOP: offline after {gone:?}, waiting requests told after {told:?}, back after {back:?}");
    assert!(told < UNANNOUNCED * SLACK, "who waited was told after {told:?}");
}

#[tokio::test]
async fn request_to_a_frozen_agent_does_not_hang() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let service = deployment.publish("new", Access::Open).await;
    deployment.process(Part::Agent).signal("STOP");
    let begin = Instant::now();

    // The first request after the freeze: nothing can be known of it yet.
    let answer = deployment
        .client(HttpVersion::H1)
        .fetch(&service.domain, "/")
        .await
        .unwrap();

    let took = begin.elapsed();
    assert!(matches!(answer.status().as_u16(), 502 | 504), "{answer:?}");
    assert!(took < UNANNOUNCED * SLACK, "told after {took:?}");
    deployment.process(Part::Agent).signal("CONT");
}

#[tokio::test]
async fn stopped_service_of_the_host_is_told_at_once() {
    let mut deployment = Deployment::start().await;
    let service = deployment.publish("closed", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);

    deployment.origin = Origin::start().await;

    let what = "the edge says that nothing listens";
    let page = eventually(what, async || client.expect(&service.domain, "/", 502).await).await;
    assert!(!page.contains("peer not connected"), "the peer is there: {page}");
}

#[tokio::test]
async fn tunnel_counters_move_with_requests() {
    let deployment = Deployment::start().await;
    let service = deployment.publish("counted", Access::Open).await;
    let client = deployment.client(HttpVersion::H1);
    let before = TunnelBytes::read(&deployment).await;

    let answer = client.expect(&service.domain, "/bytes/1/3000000", 200).await;
    assert!(answer.is_ok(), "{answer:?}");

    eventually("three megabytes went through the tunnel", async || {
        let now = TunnelBytes::read(&deployment).await;
        let enough = now.received - before.received >= 3_000_000.0 && now.sent > before.sent;
        if enough {
            Ok(())
        } else {
            Err(format!("{before:?} -> {now:?}"))
        }
    })
    .await;
}

/// Waits until the service says that its peer is gone, and returns how long that took.
async fn offline(client: &Client, domain: &str, bound: Duration) -> Duration {
    let ((), took) = within(
        bound,
        "the service says that its peer is not connected",
        async || {
            let page = client.expect(domain, "/", 502).await?;
            if page.contains("peer not connected") {
                Ok(())
            } else {
                Err(page)
            }
        },
    )
    .await;
    took
}

async fn online(client: &Client, domain: &str, bound: Duration) -> Duration {
    within(bound, "the service answers again", async || {
        client.expect(domain, "/", 200).await
    })
    .await
    .1
}

/// Requests that have reached the origin, which never answers them, one for each version.
async fn waiting_requests(deployment: &Deployment, domain: &str) -> Vec<JoinHandle<Instant>> {
    let requests: Vec<JoinHandle<Instant>> = HttpVersion::ALL
        .map(|version| {
            let (client, domain) = (deployment.client(version), domain.to_owned());
            tokio::spawn(async move {
                let answer = client.fetch(&domain, "/hold").await;
                let answer =
                    answer.unwrap_or_else(|error| panic!("{version:?}: an error page was due: {error}"));
                assert!(
                    matches!(answer.status().as_u16(), 502 | 504),
                    "{version:?}: {answer:?}"
                );
                Instant::now()
            })
        })
        .into();
    eventually("the requests wait at the origin", async || {
        match deployment.origin.hits("/hold") {
            hits if hits == requests.len() => Ok(()),
            hits => Err(format!("{hits} requests")),
        }
    })
    .await;
    requests
}

/// How long after the outage the last of the waiting requests was answered.
async fn told(waiting: Vec<JoinHandle<Instant>>, outage: Instant) -> Duration {
    let mut last = outage;
    for request in waiting {
        let answered = tokio::time::timeout(UNANNOUNCED * SLACK, request).await;
        let answered = answered
            .expect("a waiting request is answered")
            .expect("with an error page");
        last = last.max(answered);
    }
    last.duration_since(outage)
}

/// Bytes that the tunnels of the proxy carried.
#[derive(Debug)]
struct TunnelBytes {
    received: f64,
    sent: f64,
}

impl TunnelBytes {
    async fn read(deployment: &Deployment) -> Self {
        Self {
            received: deployment
                .metric("proxy_tunnel_receive_bytes_total")
                .await
                .expect("the counter is there"),
            sent: deployment
                .metric("proxy_tunnel_transmit_bytes_total")
                .await
                .expect("the counter is there"),
        }
    }
}
