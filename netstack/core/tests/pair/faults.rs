//! Peers that restart, vanish, move and come back.

use std::io;
use std::task::Poll;
use std::time::Duration;

use meshgate_netstack_core::{ConnectError, Event, ListenOn, PathKind, Silence, Source, TxBatch};

use crate::streams::{SECONDS, read_all, write};
use crate::world::*;

/// A second less than promised, for what happens around the node.
const OUTAGE: Duration = Duration::from_secs(5);

#[test]
fn a_restarted_peer_answers_again_within_six_seconds() {
    let mut world = World::new(1);
    world.connected(A);
    world.restart(B);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    let restarted = world.now;

    let stream = world.dial(A, 7, SECONDS * 30);
    world.finish_dial(&stream).unwrap();

    assert!(world.now - restarted < OUTAGE, "took {:?}", world.now - restarted);
}

#[test]
fn a_restarted_peer_resets_what_it_forgot() {
    let mut world = World::new(1);
    let (ours, _theirs) = world.connected(A);
    world.run_for(SECONDS * 30);
    world.restart(B);
    let restarted = world.now;

    write(&ours, b"still there?");
    let error = read_all(&mut world, &ours).unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(world.now - restarted < OUTAGE, "took {:?}", world.now - restarted);
}

#[test]
fn a_restarted_peer_resets_what_it_forgot_although_others_are_busy() {
    let mut world = World::new(1);
    let (waiting, _theirs) = world.connected(A);
    write(&waiting, b"a request whose answer will never come");
    world.run_for(SECONDS * 30);
    world.restart(B);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    let restarted = world.now;
    let busy = world.dial(A, 7, SECONDS * 30);
    world.finish_dial(&busy).unwrap();
    world.run_until(SECONDS, |world| !world.accepted[B].is_empty());

    let mut buffer = [0; 10];
    while waiting.poll_read(&mut context(), &mut buffer).is_pending() {
        write(&busy, b"another request");
        world.run_for(Duration::from_millis(200));
        assert!(world.now - restarted < OUTAGE, "it waits forever");
    }
}

#[test]
fn a_waiting_request_notices_a_dead_peer() {
    let mut world = World::new(1);
    let (ours, _theirs) = world.connected(A);
    write(&ours, b"request");
    world.run_for(SECONDS * 40);
    assert!(
        world.events[A]
            .iter()
            .all(|event| !matches!(event, Event::PeerSilent { .. }))
    );
    world.filter = Box::new(|_, _| false);
    let died = world.now;

    let error = read_all(&mut world, &ours).unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    assert!(world.now - died < OUTAGE, "took {:?}", world.now - died);
    assert!(world.events[A].contains(&Event::PeerSilent { peer: public_key(B) }));
}

#[test]
fn streams_may_outlive_a_silence() {
    let mut world = World::with_silence(1, Silence::Report);
    let (ours, theirs) = world.connected(A);
    world.filter = Box::new(|_, _| false);
    write(&ours, b"held up");
    world.run_for(SECONDS * 20);
    assert!(world.events[A].contains(&Event::PeerSilent { peer: public_key(B) }));

    world.filter = Box::new(|_, _| true);
    ours.shutdown();

    assert_eq!(read_all(&mut world, &theirs).unwrap(), b"held up");
}

#[test]
fn a_dial_to_a_dead_peer_fails_early() {
    let mut world = World::new(1);
    world.connected(A);
    world.filter = Box::new(|_, _| false);

    for _ in 0..2 {
        let started = world.now;
        let stream = world.dial(A, 7, SECONDS * 30);
        assert_eq!(world.finish_dial(&stream), Err(ConnectError::PeerOffline));
        assert!(world.now - started < OUTAGE);
    }
}

#[test]
fn an_idle_pair_is_never_silent() {
    let mut world = World::new(1);
    let (_ours, _theirs) = world.connected(A);

    world.run_for(SECONDS * 1000);

    assert!(
        !world
            .events
            .concat()
            .iter()
            .any(|event| matches!(event, Event::PeerSilent { .. }))
    );
    assert_eq!(world.nodes[A].stats().connections, 1);
}

#[test]
fn a_reply_of_ours_demands_no_answer() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    write(&theirs, b"push");
    world.run_for(SECONDS);
    drop((ours, theirs));
    world.run_for(SECONDS);
    let before = world.nodes[A].stats().tx_datagrams + world.nodes[B].stats().tx_datagrams;

    world.run_for(SECONDS * 60);

    let after = world.nodes[A].stats().tx_datagrams + world.nodes[B].stats().tx_datagrams;
    assert_eq!(after, before, "a finished pair has nothing to say");
}

#[test]
fn keepalives_keep_their_interval() {
    let mut world = World::new(1);
    let mut config = peer(B);
    config.keepalive = Some(SECONDS * 25);
    world.nodes[A].upsert_peer(world.now, config);
    world.nodes[A].initiate(&public_key(B));
    world.run_for(SECONDS * 24);
    let before = world.nodes[A].stats().tx_datagrams;

    world.run_for(SECONDS * 90);

    assert_eq!(world.nodes[A].stats().tx_datagrams - before, 4);
}

#[test]
fn keepalives_keep_the_keys_young() {
    let mut world = World::new(1);
    for which in [A, B] {
        let mut config = peer(1 - which);
        config.keepalive = Some(SECONDS * 25);
        world.nodes[which].upsert_peer(world.now, config);
    }
    world.nodes[A].initiate(&public_key(B));
    world.run_for(SECONDS);

    for _ in 0..200 {
        world.run_for(SECONDS * 5);
        for which in [A, B] {
            let last = world.nodes[which]
                .peer_stats(&public_key(1 - which))
                .unwrap()
                .last_handshake
                .unwrap();
            assert!(
                world.now - last < SECONDS * 180,
                "keys of node {which} are {:?} old",
                world.now - last
            );
        }
    }
    let handshakes = world.events[A]
        .iter()
        .filter(|event| matches!(event, Event::HandshakeCompleted { .. }))
        .count();
    assert!((6..12).contains(&handshakes), "{handshakes} handshakes in 1000 s");
}

#[test]
fn a_moved_peer_is_followed() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    let moved = "203.0.113.9:4000".parse().unwrap();
    let captured = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let sink = std::rc::Rc::clone(&captured);
    world.filter = Box::new(move |from, datagram| {
        if from == A {
            sink.borrow_mut().push(datagram.to_vec());
        }
        from != A
    });
    write(&ours, b"from elsewhere");
    world.run_for(Duration::from_millis(5));

    let datagram = captured.borrow()[0].clone();
    world.inject(moved, B, datagram.clone());
    world.run_for(Duration::from_millis(5));

    assert_eq!(path(&world, B), PathKind::Direct(moved));
    assert!(world.events[B].contains(&Event::EndpointChanged {
        peer: public_key(A),
        endpoint: moved
    }));
    drop(theirs);

    // A replay proves nothing, wherever it comes from.
    world.inject("203.0.113.10:4000".parse().unwrap(), B, datagram);
    world.run_for(Duration::from_millis(5));
    assert_eq!(path(&world, B), PathKind::Direct(moved));
}

#[test]
fn a_relay_path_stays_when_packets_come_directly() {
    let mut world = World::new(1);
    world.connected(A);
    world.nodes[B].set_path(world.now, &public_key(A), PathKind::Relay);

    let _stream = world.dial(A, 7, SECONDS);
    world.run_for(SECONDS);

    assert_eq!(path(&world, B), PathKind::Relay);
    let seen = Event::EndpointSeen {
        peer: public_key(A),
        endpoint: endpoint(A),
    };
    assert_eq!(world.events[B].iter().filter(|event| **event == seen).count(), 1);
}

#[test]
fn a_cookie_reply_never_moves_an_endpoint() {
    let mut world = World::new(1);
    let mut batch = TxBatch::new();
    let initiations: Vec<Vec<u8>> = (0..150)
        .map(|_| {
            world.nodes[A].initiate(&public_key(B));
            world.nodes[A].poll_transmit(world.now, &mut batch);
            let datagram = batch
                .transmits()
                .flat_map(|run| run.datagrams().map(<[u8]>::to_vec))
                .next()
                .unwrap();
            batch.clear();
            datagram
        })
        .collect();
    let mut cookie = None;
    for datagram in &initiations {
        world.nodes[B].handle_datagram(world.now, Source::Direct(endpoint(A)), datagram, &mut batch);
        let replies = batch
            .transmits()
            .flat_map(|run| run.datagrams().map(<[u8]>::to_vec))
            .collect::<Vec<_>>();
        cookie = replies.into_iter().find(|reply| reply[0] == 3).or(cookie);
        batch.clear();
    }
    let cookie = cookie.expect("a flood of initiations is answered with cookies");

    let elsewhere = "203.0.113.66:1".parse().unwrap();
    world.nodes[A].handle_datagram(world.now, Source::Direct(elsewhere), &cookie, &mut batch);

    assert_eq!(path(&world, A), PathKind::Direct(endpoint(B)));
    assert_eq!(
        world.nodes[A].peer_stats(&public_key(B)).unwrap().last_received,
        None
    );

    // With the cookie in it, the next initiation is served although B is still under load.
    world.nodes[A].initiate(&public_key(B));
    world.run_for(SECONDS);
    assert!(world.events[A].contains(&Event::HandshakeCompleted { peer: public_key(B) }));
}

#[test]
fn a_removed_peers_streams_are_reset() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);

    world.nodes[A].remove_peer(&public_key(B));

    assert_eq!(
        read_all(&mut world, &ours).unwrap_err().kind(),
        io::ErrorKind::HostUnreachable
    );
    assert_eq!(
        read_all(&mut world, &theirs).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(world.nodes[A].stats().peers, 0);
    assert_eq!(
        world.nodes[A]
            .connect(world.now, (inner(B), 7).into(), SECONDS)
            .unwrap_err(),
        ConnectError::NoPeer
    );
}

#[test]
fn an_address_that_moves_to_another_peer_takes_no_stream_along() {
    let mut world = World::new(1);
    let (ours, _theirs) = world.connected(A);
    let mut thief = peer(B);
    thief.public_key = key(7).public_key();

    world.nodes[A].upsert_peer(world.now, thief);

    assert_eq!(
        read_all(&mut world, &ours).unwrap_err().kind(),
        io::ErrorKind::HostUnreachable
    );
}

#[test]
fn abort_all_resets_everything() {
    let mut world = World::new(1);
    let pairs: Vec<_> = (0..20).map(|_| world.connected(A)).collect();

    world.nodes[B].abort_all();
    world.run_for(SECONDS);

    for (ours, _) in &pairs {
        let Poll::Ready(Err(error)) = ours.poll_read(&mut context(), &mut [0]) else {
            panic!("no error")
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!(
        world.nodes[A].stats().connections + world.nodes[B].stats().connections,
        0
    );
}

#[test]
fn a_node_without_peers_sleeps() {
    let mut world = World::new(1);

    for which in [A, B] {
        world.nodes[which].remove_peer(&public_key(1 - which));
    }
    world.run_for(SECONDS);

    assert!(world.nodes.iter().all(|node| node.poll_timeout().is_none()));
}

#[test]
fn waits_for_a_path_without_spinning() {
    let mut world = World::new(1);
    world.nodes[A].set_path(world.now, &public_key(B), PathKind::None);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    let stream = world.dial(A, 7, SECONDS * 30);
    world.run_for(SECONDS * 20);
    assert!(stream.poll_connected(&mut context()).is_pending());
    assert_eq!(world.nodes[A].stats().tx_datagrams, 0);
    assert_eq!(world.events[A], [Event::PathWanted { peer: public_key(B) }]);

    world.nodes[A].set_path(world.now, &public_key(B), PathKind::Direct(endpoint(B)));

    world.finish_dial(&stream).unwrap();
    assert!(world.elapsed() < SECONDS * 21);
}

fn path(world: &World, at: usize) -> PathKind {
    world.nodes[at].peer_stats(&public_key(1 - at)).unwrap().path
}
