//! `meshgate demo` as a whole: what it publishes, prints and keeps.

use std::time::Duration;

use meshgate_tests::login::{fetch_with, log_in};
use meshgate_tests::origin::Seen;
use meshgate_tests::{Client, Demo, HttpVersion};
use reqwest::header::COOKIE;

/// Bound of the product for a start over existing data.
const SECOND_START: Duration = Duration::from_secs(5);

#[tokio::test]
async fn open_service_answers_from_the_origin() {
    let demo = Demo::shared().await;
    let domain = &demo.service("whoami").domain;
    for version in HttpVersion::ALL {
        let client = demo.client(version);

        let request = client
            .get(domain, "/a/b?c=d%20e&f")
            .header(COOKIE, "theme=dark; nb_session=stolen; lang=de");
        let answer = request.send().await.unwrap();

        assert_eq!(answer.status(), 200);
        assert_eq!(answer.version(), version.name());
        let seen: Seen = answer.json().await.unwrap();
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("GET", "/a/b?c=d%20e&f")
        );
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "{seen:?}");
        assert_eq!(
            seen.all("x-forwarded-host"),
            [format!("{domain}:{}", demo.ready.https_port)],
            "{seen:?}"
        );
        assert_eq!(seen.all("x-forwarded-proto"), ["https"], "{seen:?}");
        let cookies = seen.all("cookie").join("; ");
        assert!(
            cookies.contains("theme=dark") && cookies.contains("lang=de"),
            "{seen:?}"
        );
        assert!(!cookies.contains("nb_session"), "{seen:?}");
    }
}

#[tokio::test]
async fn what_a_client_says_about_the_way_is_replaced() {
    let demo = Demo::shared().await;
    let domain = &demo.service("whoami").domain;
    let client = demo.client(HttpVersion::H1);

    let mut request = client.get(domain, "/");
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
        ("x-netbird-user", "root@example.test"),
        ("x-netbird-groups", "admins"),
        ("x_netbird_user", "root@example.test"),
    ] {
        request = request.header(name, value);
    }
    let seen: Seen = request.send().await.unwrap().json().await.unwrap();

    for (name, value) in [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https")] {
        assert_eq!(seen.all(name), [value], "{seen:?}");
    }
    let told = format!("{:?}", seen.headers);
    assert!(
        !told.contains("203.0.113.7") && !told.contains("evil.test"),
        "{told}"
    );
    assert!(
        !told.contains("root@example.test") && !told.contains("admins"),
        "{told}"
    );
}

#[tokio::test]
async fn second_start_is_quick_and_keeps_everything() {
    let _turn = meshgate_tests::turn::alone().await;
    let mut demo = Demo::start().await;
    let first = demo.ready.clone();
    println!("first start: {:?}", demo.started_in());
    let client = demo.client(HttpVersion::H1);
    let pin = demo.service("pin").clone();
    let session = log_in(&client, &pin.domain, "/", pin.secret()).await.cookie();

    demo.restart().await;

    println!("second start: {:?}", demo.started_in());
    assert_eq!(
        demo.ready.services, first.services,
        "services and secrets are kept"
    );
    assert_eq!(demo.ready.api_token, first.api_token);
    let client = demo.client(HttpVersion::H1);
    let status = fetch_with(&client, &pin.domain, "/", &session).await.0;
    assert_eq!(
        status, 200,
        "who was logged in stays so, and the authority is the same"
    );
    every_service_answers(&demo, &client).await;
    assert!(
        demo.started_in() < SECOND_START,
        "the second start took {:?}",
        demo.started_in()
    );
}

#[tokio::test]
async fn demo_prints_where_everything_is_and_ends_on_ctrl_c() {
    let demo = Demo::start().await;
    let client = demo.client(HttpVersion::H2);
    let rest = demo.rest();

    every_service_answers(&demo, &client).await;
    let listed = rest.get("/api/reverse-proxies/services").await.unwrap();
    let output = demo.process().log();

    for service in &demo.ready.services {
        assert!(
            output.contains(&client.url(&service.domain, "")),
            "{} in {output}",
            service.domain
        );
        assert!(
            output.contains(service.secret.as_deref().unwrap_or_default()),
            "{} in {output}",
            service.name
        );
        assert!(
            listed
                .as_array()
                .unwrap()
                .iter()
                .any(|known| known["id"] == service.id.as_str()),
            "{listed}"
        );
    }
    assert!(output.contains(demo.ready.ca_file.to_str().unwrap()), "{output}");
    demo.interrupt().await;
}

async fn every_service_answers(demo: &Demo, client: &Client) {
    for service in &demo.ready.services {
        let open = service.auth == "none";
        let status = if open { 200 } else { 401 };
        let answer = client.expect(&service.domain, "/", status).await;
        assert!(answer.is_ok(), "{}: {answer:?}", service.name);
        assert_eq!(open, service.secret.is_none());
    }
}
