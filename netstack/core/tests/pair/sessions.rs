//! What WireGuard leaves to its driver: fresh keys, an honest handshake limit, peers that were away, and endpoints
//! that only the peer itself moves.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use meshgate_netstack_core::{ConnectError, Event, ListenOn, PathKind, Source, Stream, TxBatch};

use crate::clock;
use crate::streams::{SECONDS, read_all, read_some, write};
use crate::world::*;

/// Handshake and SYN exchange take two round trips of 20 ms.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Timers of peers run this often.
const TICK: Duration = Duration::from_millis(250);

#[test]
fn keys_are_renewed_under_load_without_a_pause() {
    for dialer in [A, B] {
        let mut world = World::new(1);
        let (ours, theirs) = world.connected(dialer);
        let mut slowest = Duration::ZERO;

        while world.elapsed() < SECONDS * 400 {
            slowest = slowest.max(echo(&mut world, &ours, &theirs));
            let age = key_age(&world, dialer);
            assert!(age < SECONDS * 122, "the keys are {age:?} old");
        }

        assert!(slowest < Duration::from_millis(25), "one took {slowest:?}");
        assert_eq!(handshakes(&world, dialer), 4, "at 0, 120, 240 and 360 s");
        assert_eq!(world.nodes[dialer].stats().connections, 1);
    }
}

#[test]
fn keys_are_renewed_under_load_although_handshakes_get_lost() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    let mut handshake_messages = 0;
    world.filter = Box::new(move |_, datagram| {
        let is_handshake = matches!(datagram[0], 1 | 2);
        handshake_messages += usize::from(is_handshake);
        // The first handshake is over; of each later one four initiations are lost.
        !is_handshake || (handshake_messages - 1) % 6 >= 4
    });

    while world.elapsed() < SECONDS * 400 {
        let took = echo(&mut world, &ours, &theirs);
        assert!(took < Duration::from_millis(25), "took {took:?}");
        assert!(key_age(&world, A) < SECONDS * 150);
    }
}

#[test]
fn a_flood_of_handshakes_is_forgotten_after_a_second() {
    let mut world = World::new(1);
    flood(&mut world);
    assert_eq!(
        answers(&mut world),
        [3],
        "under load there is a cookie for everybody"
    );

    world.run_for(Duration::from_millis(1500));

    assert_eq!(answers(&mut world), [2], "a response without a cookie");
}

#[test]
fn a_flood_never_disturbs_a_peer_that_is_here() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);

    for _ in 0..3 {
        flood(&mut world);
        world.nodes[A].initiate(&public_key(B));
        let took = echo(&mut world, &ours, &theirs);
        assert!(took < Duration::from_millis(25), "took {took:?}");
    }
}

#[test]
fn a_peer_that_was_away_for_minutes_is_met_at_once() {
    // Handshakes are given up after 90 s, and keys are forgotten after nine minutes.
    for (away, pause) in [(20, 5), (120, 5), (120, 30), (700, 5), (700, 300)] {
        let mut world = World::new(1);
        world.connected(A);
        world.nodes[B].listen(ListenOn::Port(7)).unwrap();
        world.filter = Box::new(|_, _| false);
        for _ in 0..away / pause {
            let started = world.now;
            let dial = world.dial(A, 7, SECONDS * 30);
            assert_eq!(world.finish_dial(&dial), Err(ConnectError::PeerOffline));
            world.run_for((SECONDS * pause).saturating_sub(world.now - started));
        }
        world.filter = Box::new(|_, _| true);
        let back = world.now;

        let dial = world.dial(A, 7, SECONDS * 30);
        world.finish_dial(&dial).unwrap();

        let took = world.now - back;
        assert!(
            took < AT_ONCE + TICK,
            "away for {away} s, asked every {pause} s: {took:?}"
        );
    }
}

#[test]
fn the_keys_of_a_pair_that_rested_are_made_anew() {
    for rest in [100, 170, 200, 600, 4000] {
        let mut world = World::new(1);
        world.connected(A);
        world.nodes[A].listen(ListenOn::Port(7)).unwrap();
        world.run_for(SECONDS * rest);
        let rested = world.now;

        let dial = world.dial(B, 7, SECONDS * 30);
        world.finish_dial(&dial).unwrap();

        let took = world.now - rested;
        assert!(took < AT_ONCE, "after {rest} s: {took:?}");
    }
}

#[test]
fn a_peer_whose_clock_went_back_is_met_when_we_call() {
    let mut world = World::new(1);
    world.connected(B);
    world.run_for(SECONDS * 10);
    clock::set_back(SECONDS * 27);
    world.restart(B);
    world.introduce(B);
    for node in &mut world.nodes {
        node.listen(ListenOn::Port(7)).unwrap();
    }

    // Its own handshakes look like old ones for 27 s; ours do not, and carry both directions.
    let ours = world.dial(A, 7, SECONDS * 30);
    world.finish_dial(&ours).unwrap();
    let called = world.now;
    let theirs = world.dial(B, 7, SECONDS * 30);
    world.finish_dial(&theirs).unwrap();

    assert!(world.now - called < AT_ONCE);
}

#[test]
fn an_idle_stream_notices_a_dead_peer_within_twenty_seconds() {
    let mut world = World::new(1);
    let (ours, _theirs) = world.connected(A);
    world.run_for(SECONDS * 300);
    world.filter = Box::new(|_, _| false);
    let died = world.now;

    read_all(&mut world, &ours).unwrap_err();

    let took = world.now - died;
    assert!(took < SECONDS * 20, "took {took:?}");
}

#[test]
fn nobody_but_the_peer_moves_its_endpoint() {
    let mut world = World::new(1);
    let (ours, _theirs) = world.connected(A);
    let captured = capture(&mut world);
    world.nodes[A].initiate(&public_key(B));
    write(&ours, b"something to forge");
    world.run_for(Duration::from_millis(100));
    let elsewhere = "203.0.113.66:1".parse().unwrap();

    for datagram in captured.borrow().iter() {
        world.inject(elsewhere, B, datagram.clone());
        for at in [0, 4, 8, 16, datagram.len() - 1] {
            let mut forged = datagram.clone();
            forged[at] ^= 1;
            world.inject(elsewhere, B, forged);
        }
        world.run_for(Duration::from_millis(1));
    }

    assert!(captured.borrow().iter().any(|datagram| datagram[0] == 1));
    assert!(captured.borrow().iter().any(|datagram| datagram[0] == 4));
    let path = world.nodes[B].peer_stats(&public_key(A)).unwrap().path;
    assert_eq!(path, PathKind::Direct(endpoint(A)));
    assert!(world.nodes[B].stats().rx_rejected > 0);
}

#[test]
fn a_pair_survives_a_move_of_both_sides() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    for hop in 1..20 {
        let mover = hop % 2;
        world.endpoints[mover] = format!("203.0.113.{hop}:4000").parse().unwrap();
        let (from, to) = if mover == A {
            (&ours, &theirs)
        } else {
            (&theirs, &ours)
        };

        let took = echo(&mut world, from, to);

        assert!(took < Duration::from_millis(25), "hop {hop} took {took:?}");
    }
}

#[test]
fn lengths_say_no_more_than_sixteen_bytes_do() {
    let mut world = World::new(1);
    let captured = capture(&mut world);
    let (ours, theirs) = world.connected(A);
    for len in 1..60 {
        write(&ours, &vec![7; len]);
        world.run_for(Duration::from_millis(15));
    }

    let data = captured.borrow();
    let data: Vec<usize> = data
        .iter()
        .filter(|datagram| datagram[0] == 4)
        .map(Vec::len)
        .collect();

    assert!(data.len() > 60);
    assert!(data.iter().all(|len| len.is_multiple_of(16)), "{data:?}");
    drop(theirs);
}

#[test]
fn a_destination_of_nobody_is_refused_at_once() {
    let mut world = World::new(1);

    for nobody in ["100.64.9.9:7", "192.0.2.2:7", "[fd00::9]:7"] {
        let dial = world.nodes[A].connect(world.now, nobody.parse().unwrap(), SECONDS);
        assert_eq!(dial.unwrap_err(), ConnectError::NoPeer, "{nobody}");
    }
    assert_eq!(world.nodes[A].stats().connections, 0);
}

/// Sends one message and waits until it came out.
fn echo(world: &mut World, from: &Stream, to: &Stream) -> Duration {
    let started = world.now;
    write(from, b"tick");
    let mut received = 0;
    world.run_until(SECONDS * 30, |_| {
        received += read_some(to).unwrap().len();
        received == 4
    });
    let took = world.now - started;
    world.run_for(Duration::from_millis(330));
    took
}

fn key_age(world: &World, at: usize) -> Duration {
    let stats = world.nodes[at].peer_stats(&public_key(1 - at)).unwrap();
    world.now - stats.last_handshake.unwrap()
}

fn handshakes(world: &World, at: usize) -> usize {
    let completed = Event::HandshakeCompleted {
        peer: public_key(1 - at),
    };
    world.events[at]
        .iter()
        .filter(|event| **event == completed)
        .count()
}

/// B gets more initiations of a stranger than it looks at in a second.
fn flood(world: &mut World) {
    let public = x25519_dalek::PublicKey::from(*public_key(B).as_bytes());
    let mut batch = TxBatch::new();
    let mut out = [0; 256];
    let secret = x25519_dalek::StaticSecret::from([42; 32]);
    let mut stranger = Tunn::new(secret, public, None, None, 5, None);
    let TunnResult::WriteToNetwork(initiation) = stranger.format_handshake_initiation(&mut out, false) else {
        panic!("no initiation")
    };
    for _ in 0..300 {
        world.nodes[B].handle_datagram(world.now, Source::Direct(endpoint(A)), initiation, &mut batch);
        batch.clear();
    }
}

/// The kinds of messages with which B answers an initiation of A.
fn answers(world: &mut World) -> Vec<u8> {
    let mut batch = TxBatch::new();
    let initiation = initiation(world, A, &mut batch);
    world.nodes[B].handle_datagram(world.now, Source::Direct(endpoint(A)), &initiation, &mut batch);
    let datagrams = batch.transmits().flat_map(|run| run.datagrams());
    datagrams.map(|datagram| datagram[0]).collect()
}

fn initiation(world: &mut World, from: usize, batch: &mut TxBatch) -> Vec<u8> {
    world.nodes[from].initiate(&public_key(1 - from));
    world.nodes[from].poll_transmit(world.now, batch);
    let initiation = batch
        .transmits()
        .flat_map(|run| run.datagrams())
        .next()
        .unwrap()
        .to_vec();
    batch.clear();
    initiation
}

/// Everything that leaves A from now on.
fn capture(world: &mut World) -> Rc<RefCell<Vec<Vec<u8>>>> {
    let captured = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&captured);
    world.filter = Box::new(move |from, datagram| {
        if from == A {
            sink.borrow_mut().push(datagram.to_vec());
        }
        true
    });
    captured
}
