//! Many services, many guesses, many requests: nobody waits for what others do.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use meshgate_tests::{Access, Client, Deployment, HttpVersion, LoginForm, Part, Rest, eventually};
use serde_json::{Value, json};

const SERVICES: usize = 300;

/// Guesses at a time.
const GUESSES: usize = 240;

/// More would mean that each guess takes memory of its own.
const MEMORY_GROWTH: u64 = 64 << 20;

#[tokio::test]
async fn service_answers_while_hundreds_of_others_are_applied() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut deployment = Deployment::start().await;
    let template = deployment.service_request("many", Access::Open).await;
    let (rest, client) = (deployment.rest(), deployment.client(HttpVersion::H2));

    let begin = Instant::now();
    let created = stream::iter(0..SERVICES)
        .map(|number| create(&rest, &template, number))
        .buffer_unordered(8);
    let times: Vec<Duration> = created.collect().await;
    let (early, late) = (mean(&times[..30]), mean(&times[SERVICES - 30..]));
    println!(
        "{SERVICES} services in {:?}; one of the first {early:?}, of the last {late:?}",
        begin.elapsed()
    );
    eventually("the last one answers", async || {
        client.expect(&host(SERVICES - 1), "/", 200).await
    })
    .await;

    deployment.stop(Part::Proxy).await;
    deployment.launch(Part::Proxy);
    let restarted = Instant::now();
    let client = deployment.client(HttpVersion::H2);
    eventually("one of them answers", async || any_answers(&client).await).await;
    let first = restarted.elapsed();
    let all = stream::iter(0..SERVICES)
        .map(|number| async move { number })
        .buffer_unordered(8);
    all.for_each(|number| {
        let client = &client;
        async move {
            let what = format!("service {number} answers after the restart");
            eventually(&what, async || client.expect(&host(number), "/", 200).await).await;
        }
    })
    .await;
    println!(
        "after a restart: the first answered in {first:?}, all in {:?}",
        restarted.elapsed()
    );
    let listed = rest.get("/api/reverse-proxies/services").await.unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(SERVICES));
}

#[tokio::test]
async fn many_guesses_at_once_take_no_memory_and_slow_nobody() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let guarded = deployment
        .publish("guessed", Access::Password("correct horse battery"))
        .await;
    let open = deployment.publish("bystander", Access::Open).await;
    let client = deployment.client(HttpVersion::H2);
    let rest = deployment.rest();
    let page = client.expect(&guarded.domain, "/", 401).await.unwrap();
    let form = LoginForm::read(&page);
    let before = deployment.process(Part::Management).rss();

    let guesses = stream::iter(0..GUESSES).map(|number| {
        let (client, form, domain) = (&client, &form, &guarded.domain);
        async move { form.send(client, domain, &format!("guess {number}")).await.status }
    });
    let guesses = guesses.buffer_unordered(GUESSES).collect::<Vec<u16>>();
    tokio::pin!(guesses);
    let (mut peak, mut slowest) = (before, Duration::ZERO);
    let statuses = loop {
        let begin = Instant::now();
        tokio::select! {
            statuses = &mut guesses => break statuses,
            answers = async { (rest.get("/api/groups").await, client.expect(&open.domain, "/", 200).await) } => {
                assert!(answers.0.is_ok() && answers.1.is_ok(), "{answers:?}");
                slowest = slowest.max(begin.elapsed());
            }
        }
        peak = peak.max(deployment.process(Part::Management).rss());
    };

    println!(
        "{GUESSES} guesses: {} KiB more, slowest bystander {slowest:?}",
        (peak - before) >> 10
    );
    assert!(
        statuses.iter().all(|status| matches!(status, 401 | 429 | 503)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&429), "guessing is limited: {statuses:?}");
    assert!(
        peak - before < MEMORY_GROWTH,
        "memory grew by {} bytes",
        peak - before
    );
    assert!(
        slowest < Duration::from_secs(2),
        "a bystander waited for {slowest:?}"
    );
}

#[tokio::test]
async fn flood_of_requests_does_not_slow_the_api() {
    let _turn = meshgate_tests::turn::alone().await;
    let deployment = Deployment::start().await;
    let open = deployment.publish("flooded", Access::Open).await;
    let client = deployment.client(HttpVersion::H2);
    let rest = deployment.rest();

    let flood = stream::iter(0..6000).map(|number| {
        let (client, domain) = (&client, &open.domain);
        async move {
            client
                .expect(domain, &format!("/flood/{number}"), 200)
                .await
                .is_ok()
        }
    });
    let answered = flood
        .buffer_unordered(64)
        .filter(|answered| futures::future::ready(*answered))
        .count();
    let answered = answered.await;
    let begin = Instant::now();
    let groups = rest.get("/api/groups").await;
    let waited = begin.elapsed();

    assert_eq!(answered, 6000);
    assert!(groups.is_ok(), "{groups:?}");
    println!("the API answered {waited:?} after the flood");
    assert!(waited < Duration::from_secs(2), "the API took {waited:?}");
    eventually("every request is in the log", async || {
        let page = rest
            .get(&format!(
                "/api/events/proxy?host={}&path=/flood/&page_size=1",
                open.domain
            ))
            .await?;
        if page["total_records"] == 6000 {
            Ok(())
        } else {
            Err(page["total_records"].to_string())
        }
    })
    .await;
}

async fn create(rest: &Rest, template: &Value, number: usize) -> Duration {
    let mut request = template.clone();
    request["name"] = format!("many-{number}").into();
    request["domain"] = json!(host(number));
    let begin = Instant::now();
    let created = rest.post("/api/reverse-proxies/services", &request).await;
    assert!(created.is_ok(), "service {number}: {created:?}");
    begin.elapsed()
}

async fn any_answers(client: &Client) -> Result<(), String> {
    let mut last = String::new();
    for number in [0, SERVICES / 2, SERVICES - 1] {
        match client.expect(&host(number), "/", 200).await {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn host(number: usize) -> String {
    format!("many-{number}.proxy.test")
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(1)
}
