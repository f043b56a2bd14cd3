//! Requests and connections that must not come through, and what is said about them.

use std::io;

use http::Request;

use super::client::{Answer, Client, Http, empty, raw, status, tls};
use super::harness::{TestEdge, app, mapping};
use super::origin::Origin;
use crate::routing::LiveConnections;

#[tokio::test]
async fn unknown_names_end_in_an_alert() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for name in ["unknown.test", "127.0.0.1"] {
        let error = tls(&edge, name, b"h2").await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains("AccessDenied"), "{name}: {error}");
    }
}

#[tokio::test]
async fn hosts_must_belong_to_the_connection() {
    let origin = Origin::start().await;
    let target = format!("http://{}", origin.address);
    let edge = TestEdge::start(vec![app(origin.address), mapping("s2", "other.test", &target)]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let mut lonely = Client::connect(&edge, "lonely.test", version).await;

        assert_eq!(client.get("APP.test.:443", "/").await.status, 200);
        assert_eq!(client.get("other.test", "/").await.status, 421);
        assert_eq!(client.get("nobody.test", "/").await.status, 404);
        assert_eq!(lonely.get("app.test", "/").await.status, 421);
        assert_eq!(lonely.get("lonely.test", "/").await.status, 404);
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn nothing_is_known_before_the_first_snapshot() {
    let edge = TestEdge::start_unready(10).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;

    let unready = client.get("app.test", "/").await;
    edge.publish(Vec::new(), LiveConnections::Keep);
    let ready = client.get("app.test", "/").await;

    assert_eq!((unready.status, ready.status), (503, 404));
}

#[tokio::test]
async fn pages_come_as_asked_for_and_are_never_kept() {
    let edge = TestEdge::start(Vec::new()).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;

    for (accept, content_type, begin) in [
        ("text/html", "text/html; charset=utf-8", "<!"),
        ("application/json", "application/json", "{\"error\":"),
        ("text/plain", "text/plain; charset=utf-8", "404 "),
    ] {
        let request = Request::get("/")
            .header("host", "app.test")
            .header("accept", accept)
            .body(empty())
            .unwrap();
        let answer = Answer::read(client.send(request).await.unwrap()).await;
        let log = edge.next_log().await;

        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.body.trim_start().starts_with(begin), "{}", answer.body);
        assert!(answer.body.contains(log.id.as_str()));
        assert_eq!(answer.header("server"), "");
    }
}

#[tokio::test]
async fn requests_without_one_host_are_refused() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: app.test\r\nhost: app.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: app.test\r\nhost: other.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: app.test:junk\r\n\r\n",
        "GET http://other.test/ HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /a%00b HTTP/1.1\r\nhost: app.test\r\n\r\n",
    ] {
        let answer = raw(&edge, request.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{request}: {answer}");
    }
    for method in ["CONNECT", "TRACE", "TRACK"] {
        let target = if method == "CONNECT" { "app.test:443" } else { "/" };
        let answer = raw(
            &edge,
            format!("{method} {target} HTTP/1.1\r\nhost: app.test\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(status(&answer), 405, "{method}: {answer}");
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn large_heads_are_refused() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let large = "x".repeat(70_000);
    let long = "x".repeat(40_000);
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;
    let request = Request::get("/")
        .header("host", "app.test")
        .header("x-large", &large)
        .body(empty())
        .unwrap();

    let header = raw(
        &edge,
        format!("GET / HTTP/1.1\r\nhost: app.test\r\nx-large: {large}\r\n\r\n").as_bytes(),
    )
    .await;
    let path = raw(
        &edge,
        format!("GET /{long} HTTP/1.1\r\nhost: app.test\r\n\r\n").as_bytes(),
    )
    .await;
    let two = client.send(request).await;

    assert_eq!(status(&header), 431);
    assert_eq!(status(&path), 414);
    assert!(two.map_or(true, |answer| answer.status() == 431));
    assert_eq!(origin.requests(), 0);
}
