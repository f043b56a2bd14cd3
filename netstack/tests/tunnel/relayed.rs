//! Through a relay, and between a relay and a direct path.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshgate_netstack::{ConnectError, Path, PathKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn echoes_through_the_relay() {
    let (a, b) = relayed(64);
    echo(&b, 7);

    assert_eq!(soon(ask(&a, at(&b, 7), b"hello")).await, b"hello");
    assert_eq!(a.net.peer_stats(&b.key).unwrap().path, PathKind::Relay);
}

#[tokio::test]
async fn a_full_relay_slows_but_loses_nothing() {
    let (a, b) = relayed(8);
    echo(&b, 7);
    let sent = pattern(4 << 20);

    let stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let source = sent.clone();
    tokio::spawn(async move {
        writer.write_all(&source).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    soon(reader.read_to_end(&mut received)).await.unwrap();

    assert!(received == sent);
    assert_eq!(a.net.stats().dropped + b.net.stats().dropped, 0);
}

#[tokio::test]
async fn a_dial_waits_for_a_path() {
    let (a, b) = strangers();
    echo(&b, 7);
    let (a, b) = (Arc::new(a), Arc::new(b));
    let dial = tokio::spawn({
        let (a, target) = (Arc::clone(&a), at(&b, 7));
        async move { ask(&a, target, b"late").await }
    });
    tokio::task::yield_now().await;

    join(&a, &b, 64);
    join(&b, &a, 64);

    assert_eq!(soon(dial).await.unwrap(), b"late");
}

#[tokio::test]
async fn a_stream_survives_a_change_of_path() {
    let (a, b) = relayed(1024);
    echo(&b, 7);
    let mut stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    for round in 0..6u8 {
        if round == 2 {
            a.net.set_path(&b.key, Path::Direct(endpoint(&b)));
            b.net.set_path(&a.key, Path::Direct(endpoint(&a)));
        }
        if round == 4 {
            join(&a, &b, 1024);
            join(&b, &a, 1024);
        }
        let sent = vec![round; 200_000];
        let mut received = vec![0; sent.len()];
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let (wrote, read) =
            soon(async { tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received)) }).await;
        wrote.unwrap();
        read.unwrap();
        assert!(received == sent, "round {round}");
    }
    assert_eq!(a.net.peer_stats(&b.key).unwrap().path, PathKind::Relay);
}

#[tokio::test]
async fn a_full_relay_may_be_replaced() {
    let (a, b) = relayed(8);
    echo(&b, 7);
    let sent = pattern(1 << 20);
    let stream = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let source = sent.clone();
    tokio::spawn(async move {
        writer.write_all(&source).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = vec![0; 100_000];

    soon(reader.read_exact(&mut received)).await.unwrap();
    join(&a, &b, 8);
    soon(reader.read_to_end(&mut received)).await.unwrap();

    assert!(received == sent);
}

#[tokio::test]
async fn a_dead_relay_fails_a_dial() {
    let (a, b) = strangers();
    let relay = join(&a, &b, 64);
    relay.dead.store(true, Ordering::Relaxed);

    let error = soon(a.net.connect(at(&b, 7), PATIENCE)).await.unwrap_err();

    assert_eq!(error, ConnectError::PeerOffline);
}

#[tokio::test]
async fn a_relayed_datagram_counts_for_its_sender_only() {
    let (a, b) = relayed(64);
    let stranger = meshgate_netstack::PrivateKey::from_bytes([9; 32]).public_key();
    echo(&b, 7);
    soon(ask(&a, at(&b, 7), b"x")).await;
    let before = b.net.stats().rx_rejected;

    let mut data = vec![0; 64];
    data[0] = 4;
    b.net.receive(&stranger, data.into());

    soon(async {
        while b.net.stats().rx_rejected == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
