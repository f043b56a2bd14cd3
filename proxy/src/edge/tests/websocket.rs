//! Connections that change their protocol.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::client::{Client, Http, raw, status, tls};
use super::harness::{PATIENCE, TestEdge, Wire, app, eventually, mapping};
use super::origin::Origin;
use crate::routing::LiveConnections;

const UPGRADE: &str = "host: app.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn bytes_go_both_ways_until_the_client_ends() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    edge.dialer.lay(Wire::Duplex);
    let mut socket = open(&edge).await;

    echo(&mut socket, b"hello").await;
    echo(&mut socket, &vec![b'x'; 1 << 20]).await;
    socket.shutdown().await.unwrap();
    drop(socket);

    let log = edge.next_log().await;
    assert_eq!(log.response_code, 101);
    assert!(
        log.bytes_upload > 1 << 20 && log.bytes_download > 1 << 20,
        "{log:?}"
    );
    eventually("the origin is left alone", || {
        origin.state.open.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn the_client_is_told_when_the_origin_ends() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut socket = open(&edge).await;

    socket.write_all(b"bye").await.unwrap();

    let end = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 8]))
        .await
        .expect("an end must come");
    assert!(end.map_or(true, |size| size == 0));
}

#[tokio::test]
async fn a_refused_upgrade_leaves_the_connection_usable() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut tls = tls(&edge, "app.test", b"http/1.1").await.unwrap();

    tls.write_all(format!("GET /ws?refuse HTTP/1.1\r\n{UPGRADE}").as_bytes())
        .await
        .unwrap();
    let refused = read_head(&mut tls).await;
    let mut body = [0; 7];
    tls.read_exact(&mut body).await.unwrap();
    tls.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n")
        .await
        .unwrap();
    let next = read_head(&mut tls).await;

    assert_eq!((status(&refused), &body[..]), (403, &b"refused"[..]));
    assert_eq!(status(&next), 200);
}

#[tokio::test]
async fn other_protocols_are_not_switched_to() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    let answer = raw(
        &edge,
        b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
    )
    .await;

    assert_eq!(status(&answer), 200);
    assert!(!answer.contains("upgrade: foo"), "{answer}");
}

#[tokio::test]
async fn http2_targets_get_upgrades_over_http1() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![mapping(
        "s1",
        "app.test",
        &format!("h2c://{}", origin.address),
    )])
    .await;
    let mut plain = Client::connect(&edge, "app.test", Http::One).await;
    assert_eq!(plain.get("app.test", "/").await.status, 200);

    let mut socket = open(&edge).await;

    echo(&mut socket, b"hello").await;
}

#[tokio::test]
async fn sockets_outlive_edits_and_end_with_their_route() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let mut socket = open(&edge).await;

    edge.publish(vec![app(origin.address)], LiveConnections::Keep);
    echo(&mut socket, b"still here").await;
    edge.publish(vec![app(origin.address)], LiveConnections::Cut);

    let end = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 8]))
        .await
        .expect("an end must come");
    assert!(end.map_or(true, |size| size == 0));
    eventually("the origin is left alone", || {
        origin.state.open.load(Ordering::SeqCst) == 0
    })
    .await;
}

async fn open(edge: &TestEdge) -> TlsStream<TcpStream> {
    let mut tls = tls(edge, "app.test", b"http/1.1").await.unwrap();
    tls.write_all(format!("GET /ws HTTP/1.1\r\n{UPGRADE}").as_bytes())
        .await
        .unwrap();
    let head = read_head(&mut tls).await;
    assert_eq!(status(&head), 101, "{head}");
    tls
}

async fn echo(socket: &mut TlsStream<TcpStream>, message: &[u8]) {
    let mut echoed = vec![0; message.len()];
    let (mut reader, mut writer) = tokio::io::split(socket);
    let both = async { tokio::join!(writer.write_all(message), reader.read_exact(&mut echoed)) };
    let (written, read) = tokio::time::timeout(PATIENCE, both)
        .await
        .expect("an echo must come");
    written.unwrap();
    read.unwrap();
    assert!(echoed == message);
}

async fn read_head(tls: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tls.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("a head must come");
    String::from_utf8(head).unwrap()
}
