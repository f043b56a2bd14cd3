//! Ordinary requests: what arrives at the origin, what comes back, what is noted.

use http::Request;
use http_body_util::BodyExt;
use meshgate_proto::PathRewrite;

use super::client::{Answer, Client, Http, empty, full, get, raw};
use super::harness::{TestEdge, app, eventually, guarded, mapping};
use super::origin::Origin;

#[tokio::test]
async fn both_versions_reach_the_origin_and_are_noted() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;

        let answer = client.get("app.test", "/hello?x=1;y=%zz").await;

        assert_eq!(answer.status, 200);
        assert!(
            answer.body.starts_with("GET /hello?x=1;y=%zz HTTP/1.1"),
            "{}",
            answer.body
        );
        let log = edge.next_log().await;
        assert_eq!(
            (log.method.as_str(), log.host.as_str(), log.path.as_str()),
            ("GET", "app.test", "/hello")
        );
        assert_eq!(
            (log.response_code, log.service_id.as_str(), log.auth_success),
            (200, "s1", true)
        );
        assert_eq!(log.bytes_download, answer.body.len() as u64);
        assert_eq!(log.source_ip, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(log.id.as_str().len(), 20);
    }
}

#[tokio::test]
async fn the_origin_learns_who_asks_and_nothing_forged() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let request = Request::get("/")
            .header("host", "app.test:8443")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x_forwarded_for", "6.6.6.6")
            .header("x-real-ip", "6.6.6.6")
            .header("forwarded", "for=6.6.6.6")
            .header("x-netbird-user", "root")
            .header("x_netbird_user", "root")
            .header("x.netbird.groups", "admins")
            .header("cookie", "a=1; nb_session=secret; b=\"2 \\3\"")
            .header("x-kept", "yes")
            .body(empty())
            .unwrap();

        let body = Answer::read(client.send(request).await.unwrap()).await.body;

        for line in [
            "x-forwarded-for: 127.0.0.1",
            "x-real-ip: 127.0.0.1",
            "x-forwarded-host: app.test:8443",
            "x-forwarded-proto: https",
            "x-forwarded-port: 8443",
            "cookie: a=1; b=\"2 \\3\"",
            "x-kept: yes",
        ] {
            assert!(body.contains(line), "{line} in {body}");
        }
        for word in ["6.6.6.6", "root", "admins", "secret", "forwarded: for"] {
            assert!(!body.contains(word), "{word} in {body}");
        }
        assert!(body.contains(&format!("host: {}", origin.address)));
    }
}

#[tokio::test]
async fn a_connection_header_cannot_take_our_headers_away() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    let cut = raw(
        &edge,
        b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: x-netbird-user, x-secret\r\nx-secret: 1\r\n\r\n",
    )
    .await;
    let forbidden = raw(
        &edge,
        b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: x-forwarded-for\r\n\r\n",
    )
    .await;

    assert!(
        cut.starts_with("HTTP/1.1 200") && cut.contains("x-forwarded-for: 127.0.0.1"),
        "{cut}"
    );
    assert!(!cut.contains("x-secret"));
    assert!(forbidden.starts_with("HTTP/1.1 400"), "{forbidden}");
}

#[tokio::test]
async fn prefixes_are_matched_by_segment_and_stripped_or_kept() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let mut service = mapping("s1", "app.test", &format!("http://{}/base", one.address));
    let mut api = service.paths[0].clone();
    api.path = "/api".into();
    api.target = format!("http://{}", two.address);
    api.options.path_rewrite = PathRewrite::Preserve;
    service.paths[0].path = "/web".into();
    service.paths.push(api);
    let edge = TestEdge::start(vec![service]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;

    for (path, status, line) in [
        ("/web/x%2Fy", 200, "GET /base/x%2Fy "),
        ("/web", 200, "GET /base/ "),
        ("/web//../web/x", 200, "GET /base/web/x "),
        ("/%77eb/x", 200, "GET /base/x "),
        ("/api/v1", 200, "GET /api/v1 "),
        ("/webx", 404, ""),
        ("/api/../webx", 404, ""),
        ("/", 404, ""),
        ("/web/%2e%2e%2fapi", 400, ""),
        ("/web/..;/api", 400, ""),
    ] {
        let answer = client.get("app.test", path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(
            status != 200 || answer.body.starts_with(line),
            "{path}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn hosts_cookies_and_redirects_follow_the_settings() {
    let origin = Origin::start().await;
    let mut service = mapping("s1", "app.test", &format!("http://{}/base", origin.address));
    service.rewrite_redirects = true;
    service.paths[0].path = "/app".into();
    service.paths[0]
        .options
        .custom_headers
        .insert("X-Custom".into(), "mine".into());
    let mut passing = service.clone();
    passing.id = meshgate_proto::ServiceId::new("s2");
    passing.domain = "other.test".parse().unwrap();
    passing.pass_host_header = true;
    passing.paths[0].path = "/".into();
    passing.paths[0].target = format!("http://{}", origin.address);
    let edge = TestEdge::start(vec![service, passing]).await;
    let mut app = Client::connect(&edge, "app.test", Http::One).await;
    let mut other = Client::connect(&edge, "other.test", Http::Two).await;

    let seen = app.get("app.test", "/app/").await.body;
    let passed = other.get("other.test:8443", "/").await.body;
    let cookies = other.get("other.test", "/cookies").await;

    assert!(seen.contains("x-custom: mine"), "{seen}");
    assert!(passed.contains("host: other.test:8443"), "{passed}");
    let set: Vec<_> = cookies.head.headers.get_all("set-cookie").iter().collect();
    assert_eq!(set, ["a=1; Path=/"]);
    assert_eq!(cookies.header("keep-alive"), "");
}

#[tokio::test]
async fn redirects_to_the_target_are_rewritten() {
    let origin = Origin::start().await;
    let mut service = app(origin.address);
    service.rewrite_redirects = true;
    let edge = TestEdge::start(vec![service]).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;

    let answer = client.get("app.test:8443", "/redirect").await;

    assert_eq!(answer.header("location"), "https://app.test:8443/base/login?x=1");
}

#[tokio::test]
async fn heads_have_no_body_and_late_clients_get_no_chunks() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;
    let head = |path: &str| {
        Request::head(path)
            .header("host", "app.test")
            .body(empty())
            .unwrap()
    };

    let found = Answer::read(client.send(head("/")).await.unwrap()).await;
    let missing = Answer::read(client.send(head("/.meshgate/nothing")).await.unwrap()).await;
    let old = super::client::raw_to_end(&edge, b"GET /bytes/70000 HTTP/1.0\r\nhost: app.test\r\n\r\n").await;

    assert_eq!((found.status, found.body.len()), (200, 0));
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    assert!(
        old.starts_with("HTTP/1") && !old.to_ascii_lowercase().contains("transfer-encoding"),
        "{}",
        &old[..300]
    );
    assert_eq!(old.split_once("\r\n\r\n").unwrap().1.len(), 70_000);
}

#[tokio::test]
async fn a_guarded_service_lets_nothing_through() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![guarded(app(origin.address))]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let post = Request::post("/upload")
            .header("host", "app.test")
            .body(full("data"))
            .unwrap();
        let form = |pin: &'static str| {
            let body = format!("pin={pin}&return_to=%2F");
            Request::post("/.meshgate/login")
                .header("host", "app.test")
                .header("origin", "https://app.test")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(full(body))
                .unwrap()
        };

        let page = client.get("app.test", "/").await;
        let posted = Answer::read(client.send(post).await.unwrap()).await;
        // An answer before the end of a request's body ends the connection under HTTP/1.1.
        let mut client = Client::connect(&edge, "app.test", version).await;
        let wrong = Answer::read(client.send(form("0000")).await.unwrap()).await;

        assert_eq!((page.status, posted.status, wrong.status), (401, 401, 401));
        assert!(page.body.contains("/.meshgate/login") && page.header("cache-control") == "no-store");
        let log = edge.next_log().await;
        assert!(!log.auth_success);
        let _ = (edge.next_log().await, edge.next_log().await);
    }

    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn large_forms_are_refused_while_they_are_read() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![guarded(app(origin.address))]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let chunks =
            futures::stream::iter((0..64).map(|_| Ok(hyper::body::Frame::data(vec![b'x'; 1024].into()))));
        let request = Request::post("/.meshgate/login")
            .header("host", "app.test")
            .header("origin", "https://app.test")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(BodyExt::boxed(http_body_util::StreamBody::new(chunks)))
            .unwrap();

        let answer = Answer::read(client.send(request).await.unwrap()).await;

        assert_eq!(answer.status, 413);
    }
}

#[tokio::test]
async fn the_reserved_prefix_never_reaches_an_application() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;

    for path in [
        "/.meshgate/x",
        "/.meshgate",
        "/%2emeshgate/x",
        "/a/../.meshgate/x",
        "//.meshgate//x",
    ] {
        assert_eq!(client.get("app.test", path).await.status, 404, "{path}");
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn draining_finishes_requests_and_ends_idle_connections() {
    let origin = Origin::start().await;
    let (events, receiver) = tokio::sync::mpsc::channel(1);
    *origin.state.events.lock().await = Some(receiver);
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut idle = Client::connect(&edge, "app.test", Http::One).await;
    idle.get("app.test", "/").await;
    let mut busy = Client::connect(&edge, "app.test", Http::Two).await;
    let answer = busy.send(get("app.test", "/events")).await.unwrap();

    edge.stop.cancel();
    let draining = tokio::spawn({
        let edge = std::sync::Arc::clone(&edge.edge);
        async move { edge.drain(super::harness::PATIENCE).await }
    });
    eventually("idle connections end", || edge.edge.open_connections() == 1).await;
    events.send("last".into()).await.unwrap();
    drop(events);
    let answer = Answer::read(answer).await;

    assert_eq!(answer.body, "last");
    assert_eq!(draining.await.unwrap(), 0);
}

#[tokio::test]
async fn what_outlives_the_drain_is_cut() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;
    let hanging = tokio::spawn(async move { client.send(get("app.test", "/hang")).await.is_err() });
    eventually("the request arrives", || origin.requests() == 1).await;

    edge.stop.cancel();
    let cut = edge.edge.drain(std::time::Duration::from_millis(50)).await;

    assert_eq!(cut, 1);
    assert!(hanging.await.unwrap());
}

#[tokio::test]
async fn a_refused_upload_still_gets_its_answer() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![guarded(app(origin.address))]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let request = Request::post("/upload").header("host", "app.test");
        let request = request.body(full(vec![b'x'; 900_000])).unwrap();

        let answer = Answer::read(client.send(request).await.unwrap()).await;

        assert_eq!(answer.status, 401, "{version:?}");
    }
    assert_eq!(origin.requests(), 0);
}
