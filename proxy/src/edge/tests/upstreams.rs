//! Streams to targets: who gets which, what happens when they fail.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Answer, Client, Http, empty, full, get};
use super::harness::{TestEdge, Wire, app, eventually, mapping};
use super::origin::{Origin, read_head, scripted};
use crate::routing::LiveConnections;
use crate::upstream::DialError;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn three_requests_are_one_dial() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for (number, wire) in [Wire::Tcp, Wire::Duplex].into_iter().enumerate() {
        edge.dialer.lay(wire);
        // Another revision has other streams.
        edge.publish(vec![app(origin.address)], LiveConnections::Keep);
        for version in [Http::One, Http::Two, Http::One] {
            let mut client = Client::connect(&edge, "app.test", version).await;
            assert_eq!(client.get("app.test", "/").await.status, 200);
            // The stream goes back a moment after the answer.
            edge.next_log().await;
        }
        assert_eq!(edge.dialer.dials(), number + 1, "{wire:?}");
    }
}

#[tokio::test]
async fn another_revision_and_another_service_dial_anew() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;
    client.get("app.test", "/").await;
    edge.next_log().await;

    edge.publish(vec![app(origin.address)], LiveConnections::Keep);
    client.get("app.test", "/").await;
    let twin = mapping("s2", "other.test", &format!("http://{}", origin.address));
    edge.publish(vec![twin], LiveConnections::Keep);
    let mut other = Client::connect(&edge, "other.test", Http::One).await;
    other.get("other.test", "/").await;

    assert_eq!(edge.dialer.dials(), 3);
    eventually("streams of the old revision close", || {
        origin.state.open.load(Ordering::SeqCst) == 2
    })
    .await;
}

#[tokio::test]
async fn unclean_exchanges_are_not_followed_by_others() {
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok extra",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        OK,
    ];
    let (address, _origin) = scripted(move |mut tcp, number| async move {
        read_head(&mut tcp).await;
        tcp.write_all(answers[number]).await.unwrap();
        if number != 2 {
            return;
        }
        let _ = tcp.read(&mut [0; 1]).await;
    })
    .await;
    let edge = TestEdge::start(vec![app(address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;

    for number in 0..answers.len() {
        let answer = client.get("app.test", "/").await;
        edge.next_log().await;

        assert_eq!((answer.status, &answer.body[..2]), (200, "ok"), "{number}");
        assert_eq!(edge.dialer.dials(), number + 1);
    }
}

#[tokio::test]
async fn a_dead_idle_stream_is_replaced_without_the_client_noticing() {
    // The first stream answers once and dies on its second request, after it was taken for alive.
    let (address, _origin) = scripted(|mut tcp, number| async move {
        read_head(&mut tcp).await;
        tcp.write_all(OK).await.unwrap();
        if number == 0 {
            let _ = tcp.read(&mut [0; 1]).await;
            return;
        }
        read_head(&mut tcp).await;
    })
    .await;
    let edge = TestEdge::start(vec![app(address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;
    client.get("app.test", "/").await;
    edge.next_log().await;

    let answer = client.get("app.test", "/again").await;

    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(edge.dialer.dials(), 2);
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    for (method, size, status, dials) in [
        ("PUT", 3000, 200, 2),
        ("PUT", 200_000, 502, 1),
        ("POST", 3000, 502, 1),
    ] {
        // The first stream answers once, takes the second request whole, and dies.
        let (address, _origin) = scripted(|mut tcp, number| async move {
            read_request(&mut tcp).await;
            tcp.write_all(OK).await.unwrap();
            read_request(&mut tcp).await;
            if number > 0 {
                read_head(&mut tcp).await;
            }
        })
        .await;
        let edge = TestEdge::start(vec![app(address)]).await;
        let mut client = Client::connect(&edge, "app.test", Http::Two).await;
        client.get("app.test", "/").await;
        edge.next_log().await;

        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "app.test");
        let request = request
            .header("content-length", size)
            .body(full(vec![b'x'; size]))
            .unwrap();
        let answer = Answer::read(client.send(request).await.unwrap()).await;

        assert_eq!(
            (answer.status, edge.dialer.dials()),
            (status, dials),
            "{method} {size}"
        );
    }
}

#[tokio::test]
async fn every_failed_hop_has_its_page() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;

    for (error, status, words) in [
        (DialError::PeerNotConnected, 502, "peer not connected"),
        (DialError::NoRoute, 502, "peer not connected"),
        (DialError::Refused, 502, "\"service_refused\""),
        (DialError::Reset, 502, "\"connection_failed\""),
        (DialError::TimedOut, 504, "\"peer_timed_out\""),
    ] {
        edge.dialer.fail_next(error);
        let request = Request::get("/")
            .header("host", "app.test")
            .header("accept", "application/json");
        let answer = Answer::read(client.send(request.body(empty()).unwrap()).await.unwrap()).await;
        let log = edge.next_log().await;

        assert_eq!(answer.status, status);
        assert!(answer.body.contains(words), "{words} in {}", answer.body);
        assert!(answer.body.contains(log.id.as_str()));
        assert_eq!(log.response_code, status);
    }
    assert_eq!(client.get("app.test", "/").await.status, 200);
}

#[tokio::test]
async fn requests_that_wait_learn_that_the_peer_went_away() {
    for version in [Http::One, Http::Two] {
        for scheme in ["http", "h2c"] {
            let origin = Origin::start().await;
            let service = mapping("s1", "app.test", &format!("{scheme}://{}", origin.address));
            let edge = TestEdge::start(vec![service]).await;
            edge.dialer.lay(Wire::Losable);
            let mut client = Client::connect(&edge, "app.test", version).await;
            let waiting = tokio::spawn(async move { client.get("app.test", "/hang").await });
            eventually("the request arrives", || origin.requests() == 1).await;

            edge.dialer.lose_peer();
            let answer = waiting.await.unwrap();

            assert_eq!(answer.status, 502, "{version:?} {scheme}");
            assert!(
                answer.body.contains("peer not connected"),
                "{version:?} {scheme}: {}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn a_closed_port_is_told_at_once() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let edge = TestEdge::start(vec![app(closed)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;

    let answer = client.get("app.test", "/").await;

    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn silence_and_nonsense_of_the_origin_are_told_apart() {
    let (address, _origin) = scripted(|mut tcp, _| async move {
        let head = read_head(&mut tcp).await;
        let _ = match head.split(' ').nth(1).unwrap_or_default() {
            "/nonsense" => tcp.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await,
            "/lengths" => {
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok")
                    .await
            }
            "/silent" => tcp.read(&mut [0; 1]).await.map(|_| ()),
            _ => Ok(()),
        };
    })
    .await;
    let mut service = app(address);
    service.paths[0].options.request_timeout = Some(Duration::from_millis(200));
    let edge = TestEdge::start(vec![service]).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;

    for (path, status, code) in [
        ("/nonsense", 502, "invalid_answer"),
        ("/lengths", 502, "invalid_answer"),
        ("/silent", 504, "service_timed_out"),
        ("/gone", 502, "connection_failed"),
    ] {
        let request = Request::get(path)
            .header("host", "app.test")
            .header("accept", "application/json");
        let answer = Answer::read(client.send(request.body(empty()).unwrap()).await.unwrap()).await;

        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains(code), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_completed() {
    let (address, _origin) = scripted(|mut tcp, _| async move {
        read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await
            .unwrap();
    })
    .await;
    let edge = TestEdge::start(vec![app(address)]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let answer = client.send(get("app.test", "/")).await.unwrap();

        assert!(answer.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for version in [Http::One, Http::Two] {
        let before = origin.requests();
        let mut client = Client::connect(&edge, "app.test", version).await;
        let hanging = tokio::spawn(async move { client.send(get("app.test", "/hang")).await.map(drop) });
        eventually("the request arrives", || origin.requests() == before + 1).await;

        hanging.abort();

        eventually("the origin is left alone", || {
            origin.state.open.load(Ordering::SeqCst) == 0
        })
        .await;
        assert_eq!(edge.next_log().await.response_code, 499);
    }
}

#[tokio::test]
async fn tls_targets_are_verified_unless_told_otherwise() {
    let origin = Origin::start_tls(&[b"h2", b"http/1.1"]).await;
    let strict = mapping(
        "s1",
        "app.test",
        &format!("https://localhost:{}", origin.address.port()),
    );
    let mut lax = strict.clone();
    lax.id = meshgate_proto::ServiceId::new("s2");
    lax.domain = "other.test".parse().unwrap();
    lax.paths[0].options.skip_tls_verify = true;
    let edge = TestEdge::start(vec![strict, lax]).await;
    let mut app = Client::connect(&edge, "app.test", Http::One).await;
    let mut other = Client::connect(&edge, "other.test", Http::One).await;
    let json = Request::get("/")
        .header("host", "app.test")
        .header("accept", "application/json");

    let refused = Answer::read(app.send(json.body(empty()).unwrap()).await.unwrap()).await;
    edge.next_log().await;
    let dials = edge.dialer.dials();
    for _ in 0..2 {
        let reached = other.get("other.test", "/").await;
        edge.next_log().await;
        assert!(reached.body.starts_with("GET / HTTP/1.1"), "{}", reached.body);
    }

    assert_eq!(refused.status, 502);
    assert!(refused.body.contains("upstream_tls"), "{}", refused.body);
    assert_eq!(edge.dialer.dials(), dials + 1);
}

#[tokio::test]
async fn grpc_over_tls_takes_http2_where_there_is_some() {
    for (protocols, version, status) in [
        (&[&b"h2"[..], b"http/1.1"][..], "2", "0"),
        (&[b"http/1.1"], "1", ""),
    ] {
        let origin = Origin::start_tls(protocols).await;
        let mut service = mapping(
            "s1",
            "app.test",
            &format!("https://localhost:{}", origin.address.port()),
        );
        service.paths[0].options.skip_tls_verify = true;
        let edge = TestEdge::start(vec![service]).await;
        let mut client = Client::connect(&edge, "app.test", Http::Two).await;
        let request = Request::post("/grpc")
            .header("host", "app.test")
            .header("content-type", "application/grpc");

        let answer = client.send(request.body(full("12345")).unwrap()).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap();

        let trailer = answer.trailers().and_then(|trailers| trailers.get("grpc-status"));
        assert_eq!(
            trailer.map_or("", |value| value.to_str().unwrap()),
            status,
            "HTTP/{version}"
        );
        assert_eq!(answer.to_bytes(), "5");
    }
}

#[tokio::test]
async fn grpc_keeps_its_trailers_over_one_connection() {
    let origin = Origin::start().await;
    let service = mapping("s1", "app.test", &format!("h2c://{}", origin.address));
    let edge = TestEdge::start(vec![service]).await;
    edge.dialer.lay(Wire::Duplex);
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;

    for size in [0, 5, 300_000] {
        let request = Request::post("/grpc")
            .header("host", "app.test")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(full(vec![b'x'; size]))
            .unwrap();
        let answer = client
            .send(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
        let trailers = answer.trailers().cloned().unwrap();

        assert_eq!(answer.to_bytes(), size.to_string());
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-te"]),
            (&"0".parse().unwrap(), &"trailers".parse().unwrap())
        );
    }
    assert_eq!(edge.dialer.dials(), 1);
    let seen = client.get("app.test", "/").await.body;
    assert!(
        seen.contains("HTTP/2.0") && seen.contains("x-forwarded-for: 127.0.0.1"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_broken_http2_connection_is_replaced() {
    let origin = Origin::start().await;
    let service = mapping("s1", "app.test", &format!("h2c://{}", origin.address));
    let edge = TestEdge::start(vec![service.clone()]).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;
    client.get("app.test", "/").await;

    let port = origin.address.port();
    drop(origin);
    eventually("the old origin is gone", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    })
    .await;
    let gone = client.get("app.test", "/").await;

    assert_eq!(gone.status, 502);
    assert_eq!(edge.dialer.dials(), 2);
}

#[tokio::test]
async fn stalled_clients_of_http2_targets_do_not_hold_up_others() {
    let origin = Origin::start().await;
    let service = mapping("s1", "app.test", &format!("h2c://{}", origin.address));
    let edge = TestEdge::start(vec![service]).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(&edge, "app.test", Http::One).await;
        let answer = client.send(get("app.test", "/bytes/100000000")).await.unwrap();
        stalled.push((client, answer));
    }

    let mut client = Client::connect(&edge, "app.test", Http::One).await;
    let answer = client.get("app.test", "/bytes/1000000").await;

    assert_eq!(answer.body.len(), 1_000_000);
    assert_eq!(edge.dialer.dials(), 1);
}

async fn read_request(tcp: &mut TcpStream) {
    let head = read_head(tcp).await.to_ascii_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split('\r').next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    let _ = tcp.read_exact(&mut body).await;
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    let (address, _origin) = scripted(|mut tcp, _| async move {
        read_head(&mut tcp).await;
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\nraw";
        let _ = tcp.write_all(switch).await;
        let _ = tcp.read(&mut [0; 8]).await;
    })
    .await;
    let edge = TestEdge::start(vec![app(address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;

    assert_eq!(client.get("app.test", "/").await.status, 502);
}
