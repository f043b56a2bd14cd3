//! TCP between two well-meaning nodes.

use std::io::{self, IoSlice};
use std::task::Poll;
use std::time::Duration;

use meshgate_netstack_core::{ConnectError, ListenOn, Ports, Stream};

use crate::world::*;

#[test]
fn carries_bytes_both_ways_whatever_the_network_does() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        let (ours, theirs) = world.connected(A);
        world.netem = Netem {
            loss: 0.03,
            duplicate: 0.03,
            reorder: 0.05,
            ..Netem::CLEAN
        };

        let up = transfer(&mut world, &ours, &theirs, 200_000);
        let down = transfer(&mut world, &theirs, &ours, 200_000);

        assert!(up && down, "seed {seed}");
    }
}

#[test]
fn connects_through_heavy_loss() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.netem.loss = 0.25;
        world.nodes[B].listen(ListenOn::Port(7)).unwrap();

        let ours = world.dial(A, 7, SECONDS * 60);
        world.finish_dial(&ours).unwrap();
        write(&ours, b"hello");
        ours.shutdown();
        world.run_until(SECONDS * 60, |world| !world.accepted[B].is_empty());
        let theirs = world.accepted[B].remove(0);

        assert_eq!(read_all(&mut world, &theirs).unwrap(), b"hello", "seed {seed}");
    }
}

#[test]
fn half_close_ends_one_direction() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    write(&ours, b"question");
    ours.shutdown();

    let question = read_all(&mut world, &theirs).unwrap();
    write(&theirs, b"answer");
    theirs.shutdown();
    let answer = read_all(&mut world, &ours).unwrap();

    assert_eq!((&question[..], &answer[..]), (&b"question"[..], &b"answer"[..]));
    assert!(
        ours.poll_write(&mut context(), &[IoSlice::new(b"x")])
            .map(|result| result.is_err())
            == Poll::Ready(true)
    );
}

#[test]
fn the_end_is_still_read_long_after_it_came() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    ours.shutdown();
    write(&theirs, b"last words");
    theirs.shutdown();

    world.run_for(SECONDS * 300);

    assert_eq!(read_all(&mut world, &ours).unwrap(), b"last words");
    assert_eq!(
        world.nodes[A].stats().connections + world.nodes[B].stats().connections,
        0
    );
}

#[test]
fn a_reset_is_no_end() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    write(&theirs, b"data");
    world.run_for(SECONDS);

    theirs.abort();
    world.run_for(SECONDS);

    let mut buffer = [0; 10];
    assert!(matches!(
        ours.poll_read(&mut context(), &mut buffer),
        Poll::Ready(Ok(4))
    ));
    let Poll::Ready(Err(error)) = ours.poll_read(&mut context(), &mut buffer) else {
        panic!("no error")
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn dropping_with_unread_data_resets() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    write(&theirs, b"never read");
    world.run_for(SECONDS);

    drop(ours);

    assert_eq!(
        read_all(&mut world, &theirs).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    world.run_for(SECONDS);
    assert_eq!(world.nodes[A].stats().connections, 0);
}

#[test]
fn a_closed_port_refuses() {
    let mut world = World::new(1);

    let stream = world.dial(A, 9, SECONDS * 10);

    assert_eq!(world.finish_dial(&stream), Err(ConnectError::Refused));
    assert!(world.elapsed() < Duration::from_millis(100));
}

#[test]
fn a_denied_flow_meets_its_deadline() {
    let mut world = World::new(1);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    world.nodes[B].set_firewall(vec![allow(Ports::single(8))]);

    let stream = world.dial(A, 7, SECONDS * 10);

    assert_eq!(world.finish_dial(&stream), Err(ConnectError::TimedOut));
    assert_eq!(world.elapsed().as_secs(), 10);
    assert_eq!(world.nodes[B].stats().connections, 0);
    assert!(world.nodes[B].stats().inbound_refused > 0);
}

#[test]
fn a_full_buffer_waits_for_its_reader() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    let mut accepted = 0;
    for _ in 0..20 {
        accepted += write_some(&ours, &vec![7; 50_000]);
        world.run_for(SECONDS);
    }
    assert!(accepted < 200_000, "the window never closed: {accepted}");
    world.run_for(SECONDS * 60);

    let mut received = 0;
    world.run_until(SECONDS * 60, |_| {
        received += read_some(&theirs).unwrap_or_default().len();
        received == accepted
    });
}

#[test]
fn a_lost_last_acknowledgement_is_sent_again() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    ours.shutdown();
    assert_eq!(read_all(&mut world, &theirs).unwrap(), b"");
    let silence = world.now + Duration::from_millis(500);
    theirs.shutdown();
    world.filter = Box::new(|from, _| from != A);
    while world.now < silence {
        world.run_for(Duration::from_millis(50));
    }
    world.filter = Box::new(|_, _| true);

    assert_eq!(read_all(&mut world, &ours).unwrap(), b"");
    world.run_for(SECONDS * 5);

    assert_eq!(world.nodes[A].stats().connections, 0);
    assert_eq!(world.nodes[B].stats().connections, 0);
    let mut buffer = [0; 1];
    assert!(matches!(
        theirs.poll_read(&mut context(), &mut buffer),
        Poll::Ready(Ok(0))
    ));
}

#[test]
fn a_dropped_stream_does_not_linger() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);

    drop(ours);
    world.run_for(SECONDS * 61);

    assert_eq!(world.nodes[A].stats().connections, 0);
    drop(theirs);
}

#[test]
fn what_a_dropped_stream_still_has_arrives_however_slowly() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    let mut accepted = 0;
    for _ in 0..5 {
        accepted += write_some(&ours, &vec![7; 50_000]);
        world.run_for(SECONDS);
    }

    drop(ours);
    let mut received = 0;
    let mut buffer = [0; 1000];
    for _ in 0..accepted.div_ceil(buffer.len()) {
        world.run_for(SECONDS);
        match theirs.poll_read(&mut context(), &mut buffer) {
            Poll::Ready(Ok(len)) => received += len,
            other => panic!("{other:?} after {received} of {accepted} bytes"),
        }
    }

    assert!(accepted > 100_000, "{accepted} bytes are no test");
    assert_eq!(received, accepted);
}

#[test]
fn ipv6_works_too() {
    let mut world = World::new(1);
    let addresses = ["fd00::1", "fd00::2"].map(|text| text.parse::<std::net::IpAddr>().unwrap());
    for which in [A, B] {
        world.nodes[which].set_addresses(vec![inner(which), addresses[which]]);
        let mut other = peer(1 - which);
        other.allowed_ips.push(addresses[1 - which].into());
        world.nodes[which].upsert_peer(world.now, other);
        let mut rule = allow(Ports::All);
        rule.source = "::/0".parse().unwrap();
        world.nodes[which].set_firewall(vec![rule]);
    }
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();

    let ours = world.nodes[A]
        .connect(world.now, (addresses[B], 7).into(), SECONDS)
        .unwrap();
    world.finish_dial(&ours).unwrap();
    world.run_until(SECONDS, |world| !world.accepted[B].is_empty());
    let theirs = world.accepted[B].remove(0);

    assert!(transfer(&mut world, &ours, &theirs, 50_000));
}

pub(crate) const SECONDS: Duration = Duration::from_secs(1);

/// Moves a pattern and says whether it came out as it went in.
pub(crate) fn transfer(world: &mut World, from: &Stream, to: &Stream, len: usize) -> bool {
    let sent: Vec<u8> = (0..len)
        .map(|at| u8::try_from(at * 7919 % 251).unwrap())
        .collect();
    let (mut written, mut received) = (0, Vec::new());
    world.run_until(SECONDS * 3600, |_| {
        written += write_some(from, &sent[written..]);
        received.extend(read_some(to).unwrap());
        received.len() >= len
    });
    received == sent
}

pub(crate) fn write(stream: &Stream, bytes: &[u8]) {
    assert_eq!(write_some(stream, bytes), bytes.len());
}

pub(crate) fn write_some(stream: &Stream, bytes: &[u8]) -> usize {
    match stream.poll_write(&mut context(), &[IoSlice::new(bytes)]) {
        Poll::Ready(written) => written.unwrap(),
        Poll::Pending => 0,
    }
}

/// Reads what is there; nothing when nothing is there yet.
pub(crate) fn read_some(stream: &Stream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.poll_read(&mut context(), &mut buffer) {
            Poll::Ready(Ok(0)) | Poll::Pending => return Ok(all),
            Poll::Ready(Ok(len)) => all.extend_from_slice(&buffer[..len]),
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
}

/// Reads to the end of the stream.
pub(crate) fn read_all(world: &mut World, stream: &Stream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut outcome = Ok(());
    world.run_until(SECONDS * 600, |_| {
        let mut buffer = [0; 4096];
        loop {
            match stream.poll_read(&mut context(), &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => return true,
                Poll::Ready(Ok(len)) => all.extend_from_slice(&buffer[..len]),
                Poll::Ready(Err(error)) => {
                    outcome = Err(error);
                    return true;
                }
            }
        }
    });
    outcome.map(|()| all)
}
