//! The first request: no order in which two nodes meet may cost a TCP retransmission, which takes a second.

use std::time::Duration;

use meshgate_netstack_core::{ListenOn, PathKind, Stream};

use crate::streams::{SECONDS, read_all, write};
use crate::world::*;

/// Far below the second after which TCP sends a lost SYN again.
const NO_STALL: Duration = Duration::from_millis(300);
/// Until the end of a session is noticed by its silence.
const SILENCE: Duration = Duration::from_secs(1);

#[test]
fn the_first_request_needs_no_retransmission() {
    for (from, way) in ways() {
        let mut world = World::new(1);
        way.lay(&mut world);

        world.connected(from);

        // Handshake and SYN exchange: two round trips of 20 ms.
        assert!(
            world.elapsed() < Duration::from_millis(100),
            "{way:?} from {from} took {:?}",
            world.elapsed()
        );
    }
}

#[test]
fn simultaneous_first_contact_loses_nothing() {
    for apart in [0, 1, 5, 9, 10, 11, 19, 20, 21, 30] {
        for (first, way) in ways() {
            let mut world = World::new(1);
            way.lay(&mut world);
            listen(&mut world);

            let ours = world.dial(first, 7, SECONDS * 10);
            world.run_for(Duration::from_millis(apart));
            let theirs = world.dial(1 - first, 7, SECONDS * 10);
            world.finish_dial(&ours).unwrap();
            world.finish_dial(&theirs).unwrap();

            assert!(
                world.elapsed() < NO_STALL,
                "{way:?}, {apart} ms apart, from {first}: took {:?}",
                world.elapsed()
            );
        }
    }
}

#[test]
fn a_dial_into_a_handshake_of_the_other_side_loses_nothing() {
    for apart in [0, 1, 5, 9, 10, 11, 19, 20, 21, 30] {
        for (from, way) in ways() {
            let mut world = World::new(1);
            way.lay(&mut world);
            listen(&mut world);

            world.nodes[1 - from].initiate(&public_key(from));
            world.run_for(Duration::from_millis(apart));
            let ours = world.dial(from, 7, SECONDS * 10);
            world.finish_dial(&ours).unwrap();

            assert!(
                world.elapsed() < NO_STALL,
                "{way:?}, {apart} ms apart: took {:?}",
                world.elapsed()
            );
        }
    }
}

#[test]
fn a_renewal_of_the_keys_costs_no_dial_anything() {
    for apart in [0, 1, 5, 9, 10, 11, 19, 20, 21, 30] {
        for (from, way) in ways() {
            let mut world = World::new(1);
            way.lay(&mut world);
            world.connected(A);
            listen(&mut world);
            let renewed = world.now;

            world.nodes[1 - from].initiate(&public_key(from));
            world.nodes[from].initiate(&public_key(1 - from));
            world.run_for(Duration::from_millis(apart));
            let ours = world.dial(from, 7, SECONDS * 10);
            world.finish_dial(&ours).unwrap();

            assert!(world.now - renewed < NO_STALL, "took {:?}", world.now - renewed);
        }
    }
}

#[test]
fn a_dial_that_left_before_a_restarted_peers_handshake_follows_it() {
    for apart in [0, 1, 5, 9, 10, 11, 19, 20, 21, 30] {
        for (_, way) in ways() {
            let mut world = World::new(1);
            way.lay(&mut world);
            world.connected(A);
            world.restart(B);
            way.lay(&mut world);
            listen(&mut world);
            let restarted = world.now;

            // The SYN goes into a session that the peer has forgotten, while the peer makes a new one.
            let ours = world.dial(A, 7, SECONDS * 10);
            world.run_for(Duration::from_millis(apart));
            world.nodes[B].initiate(&public_key(A));
            world.finish_dial(&ours).unwrap();

            assert!(
                world.now - restarted < NO_STALL,
                "{way:?}, {apart} ms apart: took {:?}",
                world.now - restarted
            );
        }
    }
}

#[test]
fn many_dials_to_a_restarted_peer_follow_its_handshake() {
    let mut world = World::new(1);
    world.connected(A);
    world.restart(B);
    listen(&mut world);
    let restarted = world.now;

    let dials: Vec<Stream> = (0..40).map(|_| world.dial(A, 7, SECONDS * 10)).collect();
    world.run_for(Duration::from_millis(15));
    world.nodes[B].set_path(world.now, &public_key(A), PathKind::Direct(endpoint(A)));
    world.nodes[B].initiate(&public_key(A));
    for dial in &dials {
        world.finish_dial(dial).unwrap();
    }

    assert!(
        world.now - restarted < NO_STALL,
        "took {:?}",
        world.now - restarted
    );
}

#[test]
fn a_dial_to_a_peer_that_restarted_in_silence_waits_a_second_at_the_most() {
    let mut world = World::new(1);
    world.connected(A);
    world.run_for(SECONDS * 10);
    world.restart(B);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    let restarted = world.now;

    let ours = world.dial(A, 7, SECONDS * 10);
    world.finish_dial(&ours).unwrap();

    let took = world.now - restarted;
    assert!(took < SILENCE + Duration::from_millis(100), "took {took:?}");
}

#[test]
fn a_dial_before_the_other_side_knows_us_leaves_with_its_first_handshake() {
    let mut world = World::new(1);
    world.nodes[B].remove_peer(&public_key(A));
    world.run_for(Duration::from_millis(1));
    let ours = world.dial(A, 7, SECONDS * 10);
    world.run_for(Duration::from_millis(400));
    let known = world.now;

    world.introduce(B);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    world.nodes[B].initiate(&public_key(A));
    world.finish_dial(&ours).unwrap();

    assert!(world.now - known < NO_STALL, "took {:?}", world.now - known);
}

#[test]
fn a_syn_that_is_sent_twice_opens_one_connection() {
    let mut world = World::new(1);
    world.connected(A);
    world.nodes[B].listen(ListenOn::Port(7)).unwrap();
    let ours = world.dial(A, 7, SECONDS * 10);
    world.run_for(Duration::from_millis(5));
    world.nodes[A].initiate(&public_key(B));

    world.finish_dial(&ours).unwrap();
    write(&ours, b"once");
    ours.shutdown();
    world.run_for(SECONDS);

    assert_eq!(world.accepted[B].len(), 1);
    let theirs = world.accepted[B].remove(0);
    assert_eq!(read_all(&mut world, &theirs).unwrap(), b"once");
}

fn listen(world: &mut World) {
    for node in &mut world.nodes {
        node.listen(ListenOn::Port(7)).unwrap();
    }
}

fn ways() -> impl Iterator<Item = (usize, Laid)> {
    [Laid::Direct, Laid::Relay]
        .into_iter()
        .flat_map(|way| [(A, way), (B, way)])
}

/// The path between the nodes.
#[derive(Debug, Clone, Copy)]
enum Laid {
    Direct,
    Relay,
}

impl Laid {
    fn lay(self, world: &mut World) {
        for which in [A, B] {
            let path = match self {
                Self::Direct => PathKind::Direct(world.endpoints[1 - which]),
                Self::Relay => PathKind::Relay,
            };
            world.nodes[which].set_path(world.now, &public_key(1 - which), path);
        }
    }
}
