//! A line is filled, whatever its queue is, and a new stream neither floods nor starves it.

use std::time::Duration;

use super::line::*;
use crate::Buffers;

const MEGABIT: u64 = 125_000;
/// Segments that fit the window that the other side offers.
const LARGEST_WINDOW: usize = (4 << 20) / 1240;

fn line(megabits: u64, queue: u64) -> Line {
    Line::open(Settings {
        buffers: Buffers {
            receive: 4 << 20,
            transmit: 4 << 20,
        },
        speed: Some((megabits * MEGABIT, queue)),
        ..Settings::default()
    })
}

#[test]
fn a_line_is_filled() {
    for (megabits, queue) in [
        (10, 30_000),
        (10, 500_000),
        (100, 60_000),
        (100, 2_000_000),
        (500, 500_000),
    ] {
        let mut line = line(megabits, queue);
        let bytes = usize::try_from(megabits * MEGABIT * 4).unwrap();

        let took = line.carry(A, bytes);

        let share = 4.0 / took.as_secs_f64();
        assert!(
            share > 0.8,
            "{megabits} Mbit/s with a queue of {queue}: {share:.2} of it"
        );
    }
}

#[test]
fn a_new_stream_is_paced() {
    let mut line = line(1000, 64 << 20);
    line.carry(A, 3_000_000);

    let start = line.log.first().unwrap().at;
    let mut times: Vec<u128> = Vec::new();
    for seen in line.log.iter().filter(|seen| seen.from == A) {
        times.push(seen.at.saturating_sub(start).as_millis());
    }
    let most = times.chunk_by(|left, right| left == right).map(<[_]>::len).max();
    assert!(most.unwrap() < LARGEST_WINDOW / 8, "{most:?} segments at once");
}

#[test]
fn a_line_that_loses_without_reason_is_still_used() {
    let mut line = line(1000, 64 << 20);
    let mut number = 0_u32;
    line.judge = Box::new(move |_| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if number >> 16 < 66 {
            Lot::Lost
        } else {
            Lot::Arrives
        }
    });

    let took = line.carry(A, 10_000_000);

    let megabits = 80.0 / took.as_secs_f64();
    assert!(megabits > 15.0, "{megabits:.1} Mbit/s at 0.1 % loss");
    assert!(
        line.log
            .windows(2)
            .all(|pair| pair[1].at.saturating_sub(pair[0].at) < Duration::from_secs(1))
    );
}
