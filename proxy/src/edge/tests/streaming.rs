//! Bodies flow as they come, in both directions, however large.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Answer, Body, Client, Http, full, get, status, tls};
use super::harness::{PATIENCE, TestEdge, Wire, app, eventually, guarded, mapping};
use super::origin::{Origin, scripted};

/// Size of the large bodies.
const LARGE: u64 = 100_000_000;

/// What all buffers on the way may hold together: sockets, TLS, HTTP/2 windows, memory pipes.
const IN_FLIGHT: u64 = 16_000_000;

#[tokio::test]
async fn events_arrive_one_by_one() {
    for version in [Http::One, Http::Two] {
        let origin = Origin::start().await;
        let (events, receiver) = mpsc::channel(1);
        *origin.state.events.lock().await = Some(receiver);
        let edge = TestEdge::start(vec![app(origin.address)]).await;
        edge.dialer.lay(Wire::Duplex);
        let mut client = Client::connect(&edge, "app.test", version).await;
        let mut body = client.send(get("app.test", "/events")).await.unwrap().into_body();

        for number in 0..3 {
            // Sent only after the one before has arrived.
            events.send(format!("data: {number}\n\n").into()).await.unwrap();
            let frame = tokio::time::timeout(PATIENCE, body.frame())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"));
        }
        drop(events);
        assert!(
            body.frame()
                .await
                .is_none_or(|frame| frame.unwrap().data_ref().is_none_or(Bytes::is_empty))
        );
    }
}

#[tokio::test]
async fn uploads_arrive_piece_by_piece() {
    for version in [Http::One, Http::Two] {
        let origin = Origin::start().await;
        let edge = TestEdge::start(vec![app(origin.address)]).await;
        let mut client = Client::connect(&edge, "app.test", version).await;
        let (pieces, body) = channel_body();
        let request = Request::post("/upload")
            .header("host", "app.test")
            .body(body)
            .unwrap();
        let sending = tokio::spawn(async move { client.send(request).await.unwrap() });

        for number in 1..=3 {
            pieces
                .send(Ok(Frame::data(Bytes::from_static(b"piece"))))
                .await
                .unwrap();
            eventually("the piece arrives", || {
                origin.state.taken.load(Ordering::SeqCst) == number * 5
            })
            .await;
        }
        drop(pieces);

        assert_eq!(Answer::read(sending.await.unwrap()).await.body, "15");
        let log = edge.next_log().await;
        assert_eq!((log.bytes_upload, log.bytes_download), (15, 2));
    }
}

#[tokio::test]
async fn uploads_in_chunks_end_once() {
    let (address, _origin) = scripted(|mut tcp, _| async move {
        let mut stream = Vec::new();
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        for ends in [&b"\r\n0\r\n\r\n"[..], b"\r\n\r\n"] {
            while !stream.ends_with(ends) {
                stream.push(tcp.read_u8().await.unwrap());
            }
            // What begins the next request follows the body at once.
            assert!(stream.starts_with(b"POST ") || stream.starts_with(b"GET "));
            stream.clear();
            tcp.write_all(ok).await.unwrap();
        }
    })
    .await;
    let edge = TestEdge::start(vec![app(address)]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let (pieces, body) = channel_body();
        let request = Request::post("/upload")
            .header("host", "app.test")
            .body(body)
            .unwrap();
        let upload = async {
            pieces.send(Ok(Frame::data("piece".into()))).await.unwrap();
            drop(pieces);
        };
        let (answer, ()) = tokio::join!(client.send(request), upload);
        assert_eq!(Answer::read(answer.unwrap()).await.body, "ok");
        edge.next_log().await;

        assert_eq!(client.get("app.test", "/next").await.body, "ok");
        edge.next_log().await;
    }
    assert_eq!(edge.dialer.dials(), 2, "both streams carried both requests");
}

#[tokio::test]
async fn large_downloads_never_pile_up() {
    for version in [Http::One, Http::Two] {
        let origin = Origin::start().await;
        let edge = TestEdge::start(vec![app(origin.address)]).await;
        edge.dialer.lay(Wire::Duplex);
        let mut client = Client::connect(&edge, "app.test", version).await;
        let answer = client
            .send(get("app.test", &format!("/bytes/{LARGE}")))
            .await
            .unwrap();
        let mut body = answer.into_body();

        let mut received = 0;
        let mut most = 0;
        while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap() {
            most = most.max(origin.state.given.load(Ordering::SeqCst) - received);
            received += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
        }

        assert_eq!(received, LARGE);
        assert!(most < IN_FLIGHT, "{version:?}: {most}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_origin() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::Two).await;
    let _answer = client
        .send(get("app.test", &format!("/bytes/{LARGE}")))
        .await
        .unwrap();

    let mut given = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = origin.state.given.load(Ordering::SeqCst);
        if now == given {
            break;
        }
        given = now;
    }

    assert!(given < IN_FLIGHT, "{given}");
}

#[tokio::test]
async fn large_uploads_never_pile_up() {
    for version in [Http::One, Http::Two] {
        let origin = Origin::start().await;
        let edge = TestEdge::start(vec![app(origin.address)]).await;
        edge.dialer.lay(Wire::Duplex);
        let mut client = Client::connect(&edge, "app.test", version).await;
        let (pieces, body) = channel_body();
        let request = Request::put("/upload")
            .header("host", "app.test")
            .body(body)
            .unwrap();
        let sending = tokio::spawn(async move { client.send(request).await.unwrap() });

        let piece = Bytes::from(vec![b'x'; 100_000]);
        let mut most = 0;
        for number in 0..LARGE / 100_000 {
            let sent = pieces.send(Ok(Frame::data(piece.clone())));
            tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
            most = most.max((number + 1) * 100_000 - origin.state.taken.load(Ordering::SeqCst));
        }
        drop(pieces);

        assert_eq!(Answer::read(sending.await.unwrap()).await.body, LARGE.to_string());
        assert!(most < IN_FLIGHT, "{version:?}: {most}");
    }
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&edge, "app.test", version).await;
        let (pieces, body) = channel_body();
        pieces
            .send(Ok(Frame::data(Bytes::from_static(b"begin"))))
            .await
            .unwrap();
        let request = Request::post("/early")
            .header("host", "app.test")
            .body(body)
            .unwrap();

        let answer = client.send(request).await.unwrap();

        assert_eq!(answer.status(), 413);
        drop(pieces);
    }
}

#[tokio::test]
async fn clients_that_wait_for_leave_get_it_or_their_answer_at_once() {
    let origin = Origin::start().await;
    let service = mapping("s2", "other.test", &format!("http://{}", origin.address));
    let edge = TestEdge::start(vec![app(origin.address), guarded(service)]).await;
    let head = |host: &str| {
        format!("POST /upload HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
    };

    let mut open = tls(&edge, "app.test", b"http/1.1").await.unwrap();
    open.write_all(head("app.test").as_bytes()).await.unwrap();
    let leave = read_some(&mut open).await;
    open.write_all(b"12345").await.unwrap();
    let answer = read_some(&mut open).await;
    let mut closed = tls(&edge, "other.test", b"http/1.1").await.unwrap();
    closed.write_all(head("other.test").as_bytes()).await.unwrap();
    let refused = read_some(&mut closed).await;

    assert_eq!(
        (status(&leave), status(&answer), status(&refused)),
        (100, 200, 401)
    );
}

#[tokio::test]
async fn a_closed_route_ends_what_lives_under_it() {
    for version in [Http::One, Http::Two] {
        let origin = Origin::start().await;
        let (events, receiver) = mpsc::channel(1);
        *origin.state.events.lock().await = Some(receiver);
        let edge = TestEdge::start(vec![app(origin.address)]).await;
        let mut client = Client::connect(&edge, "app.test", version).await;
        let mut body = client.send(get("app.test", "/events")).await.unwrap().into_body();
        events.send("first".into()).await.unwrap();
        body.frame().await.unwrap().unwrap();

        edge.publish(vec![app(origin.address)], crate::routing::LiveConnections::Keep);
        events.send("second".into()).await.unwrap();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "second"
        );
        edge.remove("s1");

        let ended = tokio::time::timeout(PATIENCE, body.frame())
            .await
            .expect("the stream must end");
        assert!(ended.unwrap().is_err());
        eventually("the origin is left alone", || {
            origin.state.open.load(Ordering::SeqCst) == 0
        })
        .await;
    }
}

#[tokio::test]
async fn small_bodies_are_counted() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut client = Client::connect(&edge, "app.test", Http::One).await;
    let request = Request::post("/upload")
        .header("host", "app.test")
        .body(full("12345"))
        .unwrap();

    assert_eq!(Answer::read(client.send(request).await.unwrap()).await.body, "5");
    assert_eq!(edge.next_log().await.bytes_upload, 5);
}

async fn read_some(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = vec![0; 16 * 1024];
    let read = tokio::time::timeout(PATIENCE, io.read(&mut bytes)).await;
    let size = read.expect("an answer must come").unwrap();
    String::from_utf8_lossy(&bytes[..size]).into_owned()
}

/// A body that is fed through a channel without room for more than one piece.
fn channel_body() -> (mpsc::Sender<Result<Frame<Bytes>, io::Error>>, Body) {
    let (pieces, receiver) = mpsc::channel(1);
    (
        pieces,
        BodyExt::boxed(StreamBody::new(ReceiverStream::new(receiver))),
    )
}
