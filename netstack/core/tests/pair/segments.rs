//! TCP's own duties: ports, sequence numbers, reassembly, and packets that fit the path.

use std::task::Poll;
use std::time::Duration;

use meshgate_netstack_core::{DEFAULT_MTU, ListenOn};

use crate::evil::*;
use crate::streams::{SECONDS, read_all, transfer, write, write_some};
use crate::world::*;

/// What IP and UDP add to a datagram.
const UDP_OVERHEAD: usize = 28;

#[test]
fn thirty_two_holes_are_reassembled() {
    let mut evil = Evil::new();
    let (isn, stream) = evil.establish();
    let part = |number: u32| Shape {
        sequence: 2 + number * 100,
        acknowledgement: isn.wrapping_add(1),
        ..Shape::ACK
    };

    for number in (1..64).step_by(2) {
        evil.say(part(number), 100);
    }
    for number in (0..64).step_by(2) {
        evil.say(part(number), 100);
    }

    let mut received = vec![0; 10_000];
    let Poll::Ready(Ok(len)) = stream.poll_read(&mut context(), &mut received) else {
        panic!("nothing came")
    };
    assert_eq!(len, 6400, "nothing has to be sent again");
}

#[test]
fn a_late_segment_of_an_ended_connection_is_not_reset() {
    let mut evil = Evil::new();
    let (isn, stream) = evil.establish();
    let said = |flags, sequence, acknowledgement: u32| Shape {
        flags,
        sequence,
        acknowledgement: isn.wrapping_add(acknowledgement),
        ..Shape::ACK
    };
    drop(stream);
    evil.poll();
    evil.say(said(0x11, 2, 2), 0);
    evil.wait(SECONDS * 20);
    assert_eq!(evil.victim.stats().connections, 0);

    let late = segment(ours(5000), victim(7), said(0x10, 2, 2));
    assert_eq!(evil.send(&late), Vec::<Vec<u8>>::new());

    // After a minute nobody remembers it, and its sender learns that.
    evil.wait(SECONDS * 61);
    assert_eq!(flags(&evil.send(&late)[0]), 0x04);
}

#[test]
fn a_reset_that_got_lost_is_repeated_when_asked() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    world.filter = Box::new(|from, _| from != A);
    ours.abort();
    world.run_for(Duration::from_millis(100));
    world.filter = Box::new(|_, _| true);
    let lost = world.now;

    assert!(read_all(&mut world, &theirs).is_err());

    let took = world.now - lost;
    assert!(took < SECONDS * 2, "took {took:?}");
}

#[test]
fn both_sides_recover_when_both_lost_something() {
    // Each direction has data under way; the network swallows one side's for a while, then the other's.
    for (first, second) in [(A, B), (B, A)] {
        let mut world = World::new(1);
        let (ours, theirs) = world.connected(A);
        world.filter = Box::new(move |from, _| from != first);
        write(&ours, &vec![1; 12_000]);
        write(&theirs, &vec![2; 12_000]);
        world.run_for(Duration::from_millis(1500));
        world.filter = Box::new(move |from, _| from != second);
        world.run_for(Duration::from_millis(1800));
        world.filter = Box::new(|_, _| true);
        let good = world.now;
        ours.shutdown();
        theirs.shutdown();

        assert_eq!(read_all(&mut world, &theirs).unwrap(), vec![1; 12_000]);
        assert_eq!(read_all(&mut world, &ours).unwrap(), vec![2; 12_000]);

        let took = world.now - good;
        assert!(took < SECONDS * 20, "took {took:?}");
    }
}

#[test]
fn the_other_side_may_use_its_port_again() {
    let mut evil = Evil::new();
    let (isn, stream) = evil.establish();
    drop(stream);
    evil.poll();
    let fin = Shape {
        flags: 0x11,
        sequence: 2,
        acknowledgement: isn.wrapping_add(2),
        ..Shape::ACK
    };
    evil.say(fin, 0);
    evil.wait(SECONDS * 3);

    let again = Shape {
        sequence: 1_000_000,
        ..Shape::SYN
    };
    let answers = evil.send(&segment(ours(5000), victim(7), again));

    assert_eq!(answers.len(), 1);
    assert_eq!(flags(&answers[0]), 0x12);
}

#[test]
fn sequence_numbers_start_anywhere() {
    let mut evil = Evil::new();
    evil.victim.listen(ListenOn::Port(7)).unwrap();

    let starts: Vec<u32> = (5000..5050)
        .map(|port| sequence(&evil.send(&segment(ours(port), victim(7), Shape::SYN))[0]))
        .collect();

    let mut steps: Vec<u32> = starts
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps.len(), 49, "no two steps are alike");
    let upper = steps.iter().filter(|step| **step > u32::MAX / 2).count();
    assert!((10..40).contains(&upper), "{upper} of 49 steps go back");
}

#[test]
fn a_restarted_peer_may_draw_a_port_that_we_still_hold() {
    let mut evil = Evil::new();
    let (_, old) = evil.establish();
    let again = Shape {
        sequence: 1_000_000,
        ..Shape::SYN
    };

    let answers = evil.send(&segment(ours(5000), victim(7), again));

    assert_eq!(answers.len(), 1);
    assert_eq!(flags(&answers[0]), 0x12);
    let Poll::Ready(Err(error)) = old.poll_read(&mut context(), &mut [0]) else {
        panic!("the forgotten connection goes on")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(evil.victim.stats().connections, 1);
}

#[test]
fn a_late_copy_of_a_syn_harms_nothing() {
    let mut evil = Evil::new();
    let (isn, stream) = evil.establish();

    evil.say(Shape::SYN, 0);
    let data = Shape {
        sequence: 2,
        acknowledgement: isn.wrapping_add(1),
        ..Shape::ACK
    };
    evil.say(data, 10);

    assert!(matches!(
        stream.poll_read(&mut context(), &mut [0; 20]),
        Poll::Ready(Ok(10))
    ));
}

#[test]
fn churn_leaves_nothing_behind() {
    let mut world = World::new(1);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();

    for round in 0..500 {
        let ours = world.dial(A, 7, SECONDS * 10);
        world.finish_dial(&ours).unwrap();
        write(&ours, b"ping");
        ours.shutdown();
        world.run_until(SECONDS, |world| !world.accepted[B].is_empty());
        let theirs = world.accepted[B].remove(0);
        assert_eq!(read_all(&mut world, &theirs).unwrap(), b"ping", "round {round}");
    }
    world.run_for(SECONDS * 65);

    for node in &world.nodes {
        assert_eq!(node.stats().connections, 0);
    }
}

#[test]
fn the_default_size_passes_a_path_of_1400_bytes() {
    assert!(usize::from(DEFAULT_MTU) + 32 + UDP_OVERHEAD <= 1400);
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    world.netem.largest = 1400 - UDP_OVERHEAD;

    assert!(transfer(&mut world, &ours, &theirs, 200_000));
    assert!(transfer(&mut world, &theirs, &ours, 200_000));
}

#[test]
fn a_path_that_swallows_large_packets_ends_the_stream() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    world.netem.largest = 600;
    let started = world.now;
    assert!(write_some(&ours, &vec![7; 60_000]) > 0);

    let ours = read_all(&mut world, &ours).unwrap_err();
    let theirs = read_all(&mut world, &theirs).unwrap_err();

    assert_eq!(ours.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(theirs.kind(), std::io::ErrorKind::ConnectionReset);
    let took = world.now - started;
    assert!(took < SECONDS * 190, "took {took:?}");
}

#[test]
fn a_path_that_narrows_and_widens_again_loses_nothing() {
    let mut world = World::new(1);
    let (ours, theirs) = world.connected(A);
    world.netem.largest = 600;
    write(&ours, &vec![7; 20_000]);
    ours.shutdown();
    world.run_for(SECONDS * 20);

    world.netem.largest = 1400 - UDP_OVERHEAD;

    assert_eq!(read_all(&mut world, &theirs).unwrap(), vec![7; 20_000]);
}

#[test]
fn a_peer_that_takes_more_than_our_size_gets_no_more() {
    let mut evil = Evil::new();
    let jumbo = [2, 4, 0x23, 0x28, 3, 3, 7, 4, 2, 1, 1, 1];
    let (_, stream) = evil.establish_with(jumbo);
    let written = stream.poll_write(&mut context(), &[std::io::IoSlice::new(&vec![7; 20_000])]);
    assert!(matches!(written, Poll::Ready(Ok(20_000))));

    let sent = evil.poll();

    let longest = sent.iter().map(Vec::len).max().unwrap();
    assert_eq!(longest, usize::from(DEFAULT_MTU));
}

#[test]
fn our_syn_says_what_fits_our_size() {
    let mut evil = Evil::new();
    let _dial = evil
        .victim
        .connect(evil.now, ours(5000), Duration::from_secs(10))
        .unwrap();

    let syn = evil.poll().remove(0);

    let options = &syn[40..];
    let at = options.windows(2).position(|pair| pair == [2, 4]).unwrap();
    let mss = u16::from_be_bytes([options[at + 2], options[at + 3]]);
    assert!(mss <= DEFAULT_MTU - 40, "the SYN offers {mss}");
}
