//! A peer with valid keys and bad manners, and strangers without keys.

use std::task::Poll;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use meshgate_netstack_core::{ListenOn, PathKind, Ports, Source, TxBatch};

use crate::evil::*;
use crate::world::*;

#[test]
fn a_spoofed_source_is_dropped() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();
    let spoofed = segment("100.64.0.77:5000".parse().unwrap(), victim(7), Shape::SYN);

    assert_eq!(evil.send(&spoofed), Vec::<Vec<u8>>::new());

    assert_eq!(evil.victim.stats().rx_spoofed, 1);
    assert_eq!(evil.victim.stats().connections, 0);
}

#[test]
fn a_foreign_destination_is_dropped() {
    let mut evil = Evil::new();
    let routed = segment(ours(5000), "100.64.0.99:7".parse().unwrap(), Shape::SYN);

    assert_eq!(evil.send(&routed), Vec::<Vec<u8>>::new());

    assert_eq!(evil.victim.stats().rx_spoofed, 1);
}

#[test]
fn a_honest_syn_is_answered() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();

    let answers = evil.send(&segment(ours(5000), victim(7), Shape::SYN));

    assert_eq!(answers.len(), 1);
    assert_eq!(flags(&answers[0]), 0x12);
}

#[test]
fn a_stray_segment_is_reset_and_a_reset_is_not() {
    let mut evil = Evil::new();

    let answers = evil.send(&segment(ours(5000), victim(7), Shape::ACK));
    assert_eq!(answers.len(), 1);
    assert_eq!(flags(&answers[0]), 0x04);

    assert_eq!(
        evil.send(&segment(ours(5000), victim(7), Shape::RST)),
        Vec::<Vec<u8>>::new()
    );
}

#[test]
fn half_open_connections_are_bounded() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();

    for port in 1..3000 {
        evil.send(&segment(ours(port), victim(7), Shape::SYN));
    }
    assert_eq!(evil.victim.stats().connections, 1024);

    // They give up by themselves.
    let mut now = evil.now;
    for _ in 0..130 {
        now += Duration::from_millis(250);
        evil.victim.handle_timeout(now, &mut evil.batch);
        while evil.victim.poll_transmit(now, &mut evil.batch) != meshgate_netstack_core::Progress::Done {
            evil.batch.clear();
        }
        evil.batch.clear();
    }
    assert_eq!(evil.victim.stats().connections, 0);
}

#[test]
fn data_beyond_the_first_window_is_dropped() {
    let mut evil = Evil::new();
    let (isn, stream) = evil.establish();
    let acknowledgement = isn.wrapping_add(1);
    let data = |at: u32| Shape {
        sequence: 2 + at,
        acknowledgement,
        ..Shape::ACK
    };
    let window = 65_535;
    evil.say(data(window - 600), 1200);
    evil.say(data(window + 600), 1200);

    for at in (0..window).step_by(1200) {
        evil.say(data(at), usize::try_from(window - at).unwrap().min(1200));
    }

    let mut received = vec![0; 100_000];
    let Poll::Ready(Ok(len)) = stream.poll_read(&mut context(), &mut received) else {
        panic!("nothing came")
    };
    assert_eq!(len, 65_535);
}

#[test]
fn data_behind_the_end_is_ignored() {
    let last = (0x19, 2, 10);
    let behind = (0x18, 13, 20);
    for order in [[last, behind, behind], [behind, last, behind]] {
        let mut evil = Evil::new();
        let (isn, stream) = evil.establish();

        for (flags, sequence, payload) in order {
            let said = Shape {
                flags,
                sequence,
                acknowledgement: isn.wrapping_add(1),
                ..Shape::ACK
            };
            evil.say(said, payload);
        }

        let read = || {
            stream
                .poll_read(&mut context(), &mut [0; 100])
                .map(Result::unwrap)
        };
        assert_eq!((read(), read()), (Poll::Ready(10), Poll::Ready(0)), "{order:?}");
    }
}

#[test]
fn denied_ports_say_nothing() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();
    evil.victim.set_firewall(vec![allow(Ports::single(8))]);

    assert_eq!(
        evil.send(&segment(ours(5000), victim(7), Shape::SYN)),
        Vec::<Vec<u8>>::new()
    );
}

#[test]
fn pings_are_answered_when_the_rules_allow() {
    let mut evil = Evil::new();
    let mut ping = vec![0; 28];
    ping[..4].copy_from_slice(&[0x45, 0, 0, 28]);
    ping[8..10].copy_from_slice(&[64, 1]);
    ping[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
    ping[20] = 8;
    ping[22..24].copy_from_slice(&[0xf7, 0xff]);

    let answers = evil.send(&ping);
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0][20], &answers[0][12..20]),
        (0, &[100, 64, 0, 2, 100, 64, 0, 1][..])
    );

    evil.victim.set_firewall(vec![]);
    assert_eq!(evil.send(&ping), Vec::<Vec<u8>>::new());
}

#[test]
fn an_unknown_keys_initiation_is_ignored() {
    let World {
        nodes: [_, mut victim],
        now,
        ..
    } = World::new(1);
    let secret = x25519_dalek::StaticSecret::from([42; 32]);
    let public = x25519_dalek::PublicKey::from(*public_key(B).as_bytes());
    let mut stranger = Tunn::new(secret, public, None, None, 5, None);
    let mut out = [0; 256];
    let TunnResult::WriteToNetwork(initiation) = stranger.format_handshake_initiation(&mut out, false) else {
        panic!("no initiation")
    };
    let mut batch = TxBatch::new();

    victim.handle_datagram(now, Source::Direct(endpoint(A)), initiation, &mut batch);

    assert!(batch.is_empty());
    assert_eq!(victim.stats().rx_rejected, 1);
}

#[test]
fn a_relay_may_not_lend_its_name() {
    let World {
        nodes: [mut honest, mut victim],
        now,
        ..
    } = World::new(1);
    victim.set_path(now, &public_key(A), PathKind::Relay);
    honest.initiate(&public_key(B));
    let mut batch = TxBatch::new();
    honest.poll_transmit(now, &mut batch);
    let initiation = batch.transmits().next().unwrap().contents.to_vec();
    batch.clear();

    victim.handle_datagram(now, Source::Relay(key(7).public_key()), &initiation, &mut batch);
    assert!(batch.is_empty());

    victim.handle_datagram(now, Source::Relay(public_key(A)), &initiation, &mut batch);
    assert!(!batch.is_empty());
}
