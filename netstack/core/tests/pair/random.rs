//! Random datagrams, packets and segments: nothing panics.

use std::io::IoSlice;
use std::time::Duration;

use meshgate_netstack_core::{ListenOn, Source, Stream, TxBatch};
use proptest::prelude::*;

use crate::evil::*;
use crate::world::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_datagrams_never_panic(
        datagrams in prop::collection::vec((prop::option::of(1..5u8), prop::collection::vec(any::<u8>(), 0..300)), 1..50),
        relayed: bool,
    ) {
        let World { nodes: [mut node, _], now, .. } = World::new(1);
        let mut batch = TxBatch::new();
        for (kind, mut bytes) in datagrams {
            if let (Some(kind), Some(head)) = (kind, bytes.first_chunk_mut::<4>()) {
                *head = [kind, 0, 0, 0];
                let len = match kind { 1 => 148, 2 => 92, 3 => 64, _ => bytes.len() };
                bytes.resize(len, 0);
            }
            let source = if relayed { Source::Relay(public_key(B)) } else { Source::Direct(endpoint(B)) };
            node.handle_datagram(now, source, &bytes, &mut batch);
            batch.clear();
        }
    }

    #[test]
    fn random_segments_to_an_accepted_connection_break_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let mut evil = Evil::new();
        let (isn, stream) = evil.establish();
        evil.run(isn, &stream, steps);
    }

    #[test]
    fn random_segments_to_a_dialed_connection_break_nothing(
        answered: bool,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut evil = Evil::new();
        let stream = evil.victim.connect(evil.now, ours(5000), Duration::from_mins(1)).unwrap();
        let syn = evil.poll().remove(0);
        evil.victim_port = u16::from_be_bytes([syn[20], syn[21]]);
        let isn = sequence(&syn);
        if answered {
            let shape = Shape { flags: 0x12, acknowledgement: isn.wrapping_add(1), options: LIVELY_OPTIONS, ..Shape::SYN };
            evil.say(shape, 0);
        }
        evil.run(isn, &stream, steps);
    }

    #[test]
    fn random_inner_packets_never_panic(packets in prop::collection::vec(inner_packet(), 1..40)) {
        let mut evil = Evil::new();
        evil.victim.listen(ListenOn::Port(7)).unwrap();
        let mut now = evil.now;
        for packet in packets {
            evil.send(&packet);
            now += Duration::from_millis(100);
            evil.now = now;
            evil.victim.handle_timeout(now, &mut evil.batch);
            evil.batch.clear();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Sequence and acknowledgement numbers are relative to the initial ones.
    Segment(Shape, usize),
    Write(usize),
    Read(usize),
    Shutdown,
    Wait(u64),
}

impl Evil {
    fn run(&mut self, isn: u32, stream: &Stream, steps: Vec<Step>) {
        let mut cx = context();
        for step in steps {
            match step {
                Step::Segment(shape, payload) => {
                    let acknowledgement = isn.wrapping_add(shape.acknowledgement);
                    self.say(
                        Shape {
                            acknowledgement,
                            ..shape
                        },
                        payload,
                    );
                }
                Step::Write(len) => drop(stream.poll_write(&mut cx, &[IoSlice::new(&vec![0; len])])),
                Step::Read(len) => drop(stream.poll_read(&mut cx, &mut vec![0; len])),
                Step::Shutdown => stream.shutdown(),
                Step::Wait(millis) => {
                    self.now += Duration::from_millis(millis);
                    self.victim.handle_timeout(self.now, &mut self.batch);
                    self.poll();
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let near = || {
        prop_oneof![
            4 => 0..4000u32,
            1 => 0..80_000u32,
            1 => (u32::MAX - 3000)..=u32::MAX,
            1 => any::<u32>(),
        ]
    };
    let flags = prop_oneof![4 => Just(0x10u8), 2 => Just(0x18), 1 => Just(0x11), 1 => any::<u8>()];
    let shape = (
        near(),
        near(),
        flags,
        any::<u16>(),
        any::<[u8; 12]>(),
        any::<bool>(),
    )
        .prop_map(|(sequence, acknowledgement, flags, window, noise, noisy)| {
            let options = if noisy { noise } else { [1; 12] };
            Shape {
                flags,
                sequence,
                acknowledgement,
                window,
                options,
            }
        });
    prop_oneof![
        8 => (shape, 0..1300usize).prop_map(|(shape, payload)| Step::Segment(shape, payload)),
        2 => (0..5000usize).prop_map(Step::Write),
        1 => (0..5000usize).prop_map(Step::Read),
        1 => Just(Step::Shutdown),
        2 => (0..3000u64).prop_map(Step::Wait),
    ]
}

/// Random bytes, or a segment of one of a few flows with random fields and broken in one place.
fn inner_packet() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let shaped = (
        5000..5003u16,
        any::<u8>(),
        any::<u32>(),
        0..4u32,
        prop::collection::vec(any::<u8>(), 0..50),
    )
        .prop_map(|(port, flags, sequence, near, payload)| {
            let sequence = if flags & 1 == 0 { near } else { sequence };
            let mut packet = segment(
                ours(port),
                victim(7),
                Shape {
                    flags,
                    sequence,
                    ..Shape::SYN
                },
            );
            packet.extend_from_slice(&payload);
            let len = u16::try_from(packet.len()).unwrap();
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet
        });
    let broken =
        (shaped.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, byte)| {
            let at = at.index(packet.len());
            packet[at] = byte;
            packet
        });
    prop_oneof![1 => noise, 4 => shaped, 2 => broken]
}
