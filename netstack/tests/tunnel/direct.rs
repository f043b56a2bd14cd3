//! Over UDP on loopback.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshgate_netstack::{ConnectError, Event, ListenSpec, Ports, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::*;

#[tokio::test]
async fn echoes() {
    let (a, b) = neighbours();
    echo(&b, 7);

    assert_eq!(soon(ask(&a, at(&b, 7), b"hello")).await, b"hello");

    let stats = a.net.peer_stats(&b.key).unwrap();
    assert!(stats.last_handshake.is_some());
    assert!(stats.rx_bytes > 0 && stats.tx_bytes > 0);
}

#[tokio::test]
async fn moves_fifty_megabytes_each_way() {
    let (a, b) = neighbours();
    echo(&b, 7);
    let sent = Arc::new(pattern(50 << 20));

    let stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let source = Arc::clone(&sent);
    let upload = tokio::spawn(async move {
        writer.write_all(&source).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::with_capacity(sent.len());
    tokio::time::timeout(PATIENCE * 4, reader.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    upload.await.unwrap();

    assert!(
        received == *sent,
        "the echo differs, {} bytes of {}",
        received.len(),
        sent.len()
    );
}

#[tokio::test]
async fn refuses_a_closed_port() {
    let (a, b) = neighbours();

    let error = soon(a.net.connect(at(&b, 9), PATIENCE)).await.unwrap_err();

    assert_eq!(error, ConnectError::Refused);
}

#[tokio::test]
async fn a_denied_flow_times_out() {
    let (a, b) = neighbours();
    echo(&b, 7);
    b.net.set_firewall(vec![]);
    let started = Instant::now();

    let error = a
        .net
        .connect(at(&b, 7), Duration::from_millis(700))
        .await
        .unwrap_err();

    assert_eq!(error, ConnectError::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn knows_no_way_to_a_stranger() {
    let (a, _b) = neighbours();

    let error = a
        .net
        .connect("100.64.9.9:80".parse().unwrap(), PATIENCE)
        .await
        .unwrap_err();

    assert_eq!(error, ConnectError::NoPeer);
}

#[tokio::test]
async fn a_rule_that_goes_ends_what_it_allowed() {
    let (a, b) = neighbours();
    echo(&b, 7);
    let mut stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    soon(stream.read_u8()).await.unwrap();

    let mut other_port = allow_all();
    other_port.ports = Ports::single(8);
    other_port.verdict = Verdict::Accept;
    b.net.set_firewall(vec![other_port]);

    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn any_port_listener_asks_its_filter() {
    let (a, b) = neighbours();
    let mut listener = b
        .net
        .listen(ListenSpec::AnyPort {
            filter: Arc::new(|port| port == 8080),
        })
        .unwrap();

    let stream = soon(a.net.connect(at(&b, 8080), PATIENCE)).await.unwrap();
    let incoming = soon(listener.accept()).await.unwrap();
    let refused = soon(a.net.connect(at(&b, 8081), PATIENCE)).await.unwrap_err();

    assert_eq!(incoming.local, at(&b, 8080));
    assert_eq!(incoming.remote, stream.local_addr());
    assert_eq!(incoming.peer, a.key);
    assert_eq!(refused, ConnectError::Refused);
}

#[tokio::test]
async fn half_close_leaves_reading_open() {
    let (a, b) = neighbours();
    let listener = b.net.listen(ListenSpec::Port(7)).unwrap();
    serve(listener, |mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream
            .write_all(format!("got {}", all.len()).as_bytes())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
    });

    let answer = soon(ask(&a, at(&b, 7), &pattern(300_000))).await;

    assert_eq!(answer, b"got 300000");
}

#[tokio::test]
async fn an_abort_is_a_reset() {
    let (a, b) = neighbours();
    let listener = b.net.listen(ListenSpec::Port(7)).unwrap();
    serve(listener, |mut stream| async move {
        stream.write_all(b"some data").await.unwrap();
        soon(stream.acknowledged()).await;
        stream.abort();
    });
    let mut stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    let mut received = Vec::new();

    let error = soon(stream.read_to_end(&mut received)).await.unwrap_err();

    assert_eq!(received, b"some data");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(stream.write_all(b"x").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_come_and_go() {
    let (a, b) = neighbours();
    echo(&b, 7);
    let a = Arc::new(a);
    let target = at(&b, 7);

    let mut tasks = JoinSet::new();
    for worker in 0..20u8 {
        let a = Arc::clone(&a);
        tasks.spawn(async move {
            for _ in 0..50 {
                assert_eq!(soon(ask(&a, target, &[worker; 100])).await, [worker; 100]);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }

    soon(async {
        while a.net.stats().connections + b.net.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_is_told() {
    let (a, b) = neighbours();
    let mut events = b.net.subscribe();

    a.net.initiate(&b.key);

    loop {
        if soon(events.recv()).await.unwrap() == (Event::HandshakeCompleted { peer: a.key }) {
            return;
        }
    }
}

#[tokio::test]
async fn an_offline_peer_fails_dials_and_streams_at_once() {
    let (a, b) = neighbours();
    echo(&b, 7);
    let mut stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();

    a.net.set_peer_online(&b.key, false);

    assert_eq!(
        soon(stream.read_u8()).await.unwrap_err().kind(),
        ErrorKind::HostUnreachable
    );
    assert_eq!(
        a.net.connect(at(&b, 7), PATIENCE).await.unwrap_err(),
        ConnectError::PeerOffline
    );
    a.net.set_peer_online(&b.key, true);
    assert_eq!(soon(ask(&a, at(&b, 7), b"again")).await, b"again");
}

#[tokio::test]
async fn a_waiting_request_fails_within_six_seconds_of_a_silent_death() {
    let (a, b) = neighbours();
    let listener = b.net.listen(ListenSpec::Port(7)).unwrap();
    serve(listener, |stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let mut events = a.net.subscribe();
    let mut stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    stream.write_all(b"request").await.unwrap();
    soon(stream.acknowledged()).await;

    // B goes on running, but nothing of it comes out any more: as if it were killed.
    b.net.set_path(&a.key, meshgate_netstack::Path::None);
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    a.net.set_path(
        &b.key,
        meshgate_netstack::Path::Direct(nowhere.local_addr().unwrap()),
    );
    let started = Instant::now();
    let error = soon(stream.read_u8()).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "took {:?}",
        started.elapsed()
    );
    while soon(events.recv()).await.unwrap() != (Event::PeerSilent { peer: b.key }) {}
}

#[tokio::test]
async fn shutdown_resets_everything() {
    let (a, b) = neighbours();
    echo(&b, 7);
    let mut stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();

    soon(b.net.shutdown()).await;

    assert_eq!(
        soon(stream.read_u8()).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        b.net.connect(at(&a, 7), PATIENCE).await.unwrap_err(),
        ConnectError::Closed
    );
}

#[tokio::test]
async fn other_datagrams_reach_their_channel() {
    let (a, b) = neighbours();
    let mut others = b.net.other_datagrams(4);

    a.net.send_raw(endpoint(&b), b"\x00\x01stun").unwrap();

    let datagram = soon(others.recv()).await.unwrap();
    assert_eq!(datagram.source, endpoint(&a));
    assert_eq!(&datagram.payload[..], b"\x00\x01stun");
}
