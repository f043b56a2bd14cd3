//! Windows: what the other side offers is kept, what we offer hardly shrinks, and one that closed is asked after.

use std::time::Duration;

use super::line::*;
use crate::Buffers;

fn small(receive: usize) -> Settings {
    Settings {
        buffers: Buffers {
            receive,
            transmit: 1 << 20,
        },
        ..Settings::default()
    }
}

#[test]
fn a_closed_window_is_asked_after_and_opens() {
    for (receive, unit) in [(8192, 1), (300_000, 8)] {
        let mut line = Line::open(small(receive));
        let bytes = pattern(2 * receive);
        let written = line.write(A, &bytes);
        line.run_for(Duration::from_mins(5));
        let unread = line.end(B).unread();
        assert!(
            (receive - 2 * (unit - 1)..=receive).contains(&unread),
            "{unread} of {receive} bytes of the window were used"
        );
        let late: Vec<&Seen> = line.log.iter().filter(|seen| seen.at > 10_000 * MILLIS).collect();
        assert!(late.len() > 20, "{} words in five minutes", late.len());
        let offers = late
            .iter()
            .filter(|seen| seen.from == B && seen.segment.window > 0);
        assert_eq!(offers.count(), 0, "a window was offered that has no room");

        // The word that the window is open again gets lost.
        line.judge = Box::new(|seen| if seen.from == B { Lot::Lost } else { Lot::Arrives });
        let mut received = line.read(B);
        line.run_for(Duration::from_secs(1));
        line.judge = Box::new(|_| Lot::Arrives);
        line.run_until(Duration::from_mins(1), |line| {
            received.extend(line.read(B));
            received.len() >= written
        });

        assert!(received == bytes[..written]);
    }
}

#[test]
fn an_offered_window_shrinks_by_less_than_a_unit() {
    for receive in [3000, 4096, 70_000, 200_000, 1 << 20] {
        let mut line = Line::open(small(receive));
        line.judge = Box::new(|seen| {
            if seen.at.as_micros() % 7 == 0 {
                Lot::Lost
            } else {
                Lot::Arrives
            }
        });
        line.carry(A, 500_000);

        let scale = (0..14).find(|scale| receive >> scale <= 65_535).unwrap();
        let mut edge = None::<u32>;
        for seen in line.log.iter().filter(|seen| seen.from == B) {
            let window = u32::from(seen.segment.window) << scale;
            let next = seen.segment.acknowledgement.wrapping_add(window);
            if let Some(edge) = edge {
                let moved = next.wrapping_sub(edge).cast_signed();
                assert!(moved > -(1 << scale), "{receive}: the edge moved by {moved}");
            }
            edge = Some(next);
        }
    }
}

#[test]
fn small_pieces_of_a_window_are_not_offered() {
    let mut line = Line::open(small(8192));
    line.write(A, &pattern(50_000));
    line.run_for(Duration::from_secs(1));
    line.log.clear();

    for _ in 0..8192 {
        line.end(B).read(1, std::task::Waker::noop(), |_| {});
        line.run_for(Duration::from_micros(100));
    }
    line.run_for(Duration::from_millis(100));

    let pieces: Vec<usize> = line
        .data(A)
        .iter()
        .map(|(_, len)| *len)
        .filter(|len| *len > 1)
        .collect();
    assert!(
        !pieces.is_empty() && pieces.iter().all(|len| *len >= 800),
        "{pieces:?}"
    );
}

#[test]
fn a_window_grows_with_the_path() {
    let mut line = Line::open(Settings {
        delay: 50 * MILLIS,
        ..small(8 << 20)
    });

    line.carry(A, 20_000_000);

    let widest = line
        .log
        .iter()
        .filter(|seen| seen.from == B)
        .map(|seen| seen.segment.window)
        .max();
    let scale = (0..14).find(|scale| (8 << 20) >> scale <= 65_535).unwrap();
    let widest = u32::from(widest.unwrap()) << scale;
    assert!(widest > 1 << 20, "{widest} bytes");
}

#[test]
fn an_acknowledgement_waits_for_a_second_segment_or_data() {
    let mut line = Line::open(Settings::default());
    line.write(A, &[1; 1000]);
    line.run_for(15 * MILLIS);
    assert!(line.log.iter().all(|seen| seen.from == A), "it did not wait");
    line.write(B, &[2; 10]);
    line.run_for(MILLIS);
    let answers: Vec<_> = line.log.iter().filter(|seen| seen.from == B).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].segment.payload_len, 10);

    line.run_for(Duration::from_secs(1));
    line.log.clear();
    line.write(A, &[1; 2480]);
    line.run_for(11 * MILLIS);
    assert_eq!(line.log.iter().filter(|seen| seen.from == B).count(), 1);
}
