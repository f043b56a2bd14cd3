//! What was lost is sent again, soon, and nothing else is.

use std::time::Duration;

use super::line::*;

/// Payload of a full segment.
const FULL: usize = 1240;
const ROUND_TRIP: Duration = Duration::from_millis(20);

#[test]
fn a_lost_segment_is_sent_again_within_a_round_trip() {
    let mut line = Line::open(Settings::default());
    line.judge = lose(&[3]);

    let took = line.carry(A, 10 * FULL);

    assert!(took <= 2 * ROUND_TRIP, "took {took:?}");
    assert_eq!(line.repeated(A), FULL);
}

#[test]
fn many_lost_segments_are_repaired_in_one_go() {
    let mut line = Line::open(Settings::default());
    line.carry(A, 100 * FULL);
    line.log.clear();
    line.judge = lose(&[5, 7, 9, 11, 12, 13, 20]);

    let took = line.carry(A, 60 * FULL);

    assert!(took <= 4 * ROUND_TRIP, "took {took:?}");
    assert_eq!(line.repeated(A), 7 * FULL);
}

#[test]
fn a_repetition_that_is_lost_too_is_noticed() {
    let mut line = Line::open(Settings::default());
    line.carry(A, 100 * FULL);
    line.log.clear();
    let mut times = 0;
    let mut victim = None;
    line.judge = Box::new(move |seen| {
        if seen.from == B || seen.segment.payload_len == 0 {
            return Lot::Arrives;
        }
        let victim = *victim.get_or_insert(seen.segment.sequence);
        let again = seen.segment.sequence == victim && times < 3;
        times += u32::from(again);
        if again { Lot::Lost } else { Lot::Arrives }
    });

    let took = line.carry(A, 200 * FULL);

    assert!(took < Duration::from_millis(200), "took {took:?}: a timeout");
    assert_eq!(line.repeated(A), 3 * FULL);
}

#[test]
fn a_lost_tail_is_probed_for_after_two_round_trips() {
    let mut line = Line::open(Settings::default());
    line.judge = lose(&[8, 9]);

    let took = line.carry(A, 10 * FULL);

    assert!(took <= 5 * ROUND_TRIP, "took {took:?}");
    assert_eq!(line.repeated(A), 2 * FULL);
}

#[test]
fn a_single_lost_segment_costs_a_timeout() {
    let mut line = Line::open(Settings::default());
    line.judge = lose(&[0]);

    let took = line.carry(A, 100);

    assert!((200..300).contains(&took.as_millis()), "took {took:?}");
}

#[test]
fn timeouts_back_off_and_end_with_the_outage() {
    let mut line = Line::open(Settings::default());
    line.judge = Box::new(|_| Lot::Lost);
    line.write(A, b"lost");
    line.run_for(Duration::from_secs(30));

    let times: Vec<u128> = line.log.iter().map(|seen| seen.at.as_millis()).collect();
    let pauses: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.windows(2).all(|pair| pair[1] + 50 >= pair[0]),
        "{pauses:?}"
    );
    assert!(pauses.iter().all(|pause| *pause <= 10_050), "{pauses:?}");
    assert!((6..12).contains(&times.len()), "{times:?}");

    line.judge = Box::new(|_| Lot::Arrives);
    line.run_until(Duration::from_secs(11), |line| line.read(B) == b"lost");
}

#[test]
fn nothing_acknowledged_for_two_minutes_ends_it_with_a_reset() {
    let mut line = Line::open(Settings::default());
    line.judge = Box::new(|seen| {
        if seen.from == A && seen.segment.payload_len > 0 {
            Lot::Lost
        } else {
            Lot::Arrives
        }
    });
    line.write(A, b"lost");

    line.run_for(Duration::from_secs(119));
    assert_eq!(line.phase(A), Some(crate::tcp::Phase::Open));
    line.run_for(Duration::from_secs(2));

    assert_eq!(line.phase(A), Some(crate::tcp::Phase::Closed));
    assert!(
        line.log
            .iter()
            .any(|seen| seen.from == A && seen.segment.flags.rst())
    );
}

#[test]
fn late_segments_are_waited_for() {
    let mut line = Line::open(Settings::default());
    line.carry(A, 100 * FULL);
    // The first late one teaches that the path changes the order.
    for _ in 0..3 {
        line.log.clear();
        line.judge = every(10, Lot::Late(3 * MILLIS));
        line.carry(A, 100 * FULL);
        line.judge = Box::new(|_| Lot::Arrives);
        line.run_for(Duration::from_secs(1));
    }

    assert_eq!(line.repeated(A), 0);
}

#[test]
fn a_pause_of_the_path_costs_one_segment() {
    let mut line = Line::open(Settings::default());
    line.carry(A, 100 * FULL);
    line.log.clear();
    let end = line.elapsed() + 600 * MILLIS;
    line.judge = Box::new(move |seen| Lot::Late(end.saturating_sub(seen.at)));

    line.carry(A, 40 * FULL);

    // The probe of the tail, and two timeouts.
    assert!(line.repeated(A) <= 3 * FULL, "{} bytes again", line.repeated(A));
}

#[test]
fn without_selective_acknowledgements_three_repeated_ones_prove_a_loss() {
    let mut line = Line::new(Settings {
        speed: Some((10_000_000, 1_000_000)),
        ..Settings::default()
    });
    line.turn();
    let mut syn = line.log[0].bytes.clone();
    // The option becomes padding.
    let at = syn.windows(2).rposition(|pair| pair == [4, 2]).unwrap();
    syn[at..at + 2].copy_from_slice(&[1, 1]);
    line.inject(B, &syn);
    line.run_for(Duration::from_millis(100));
    line.log.clear();
    line.judge = lose(&[2]);

    let took = line.carry(A, 10 * FULL);

    assert!(took < Duration::from_millis(190), "took {took:?}");
    assert_eq!(line.repeated(A), FULL);
}

#[test]
fn a_receiver_that_forgets_what_it_had_is_served_again() {
    let mut line = Line::open(Settings::default());
    let first = isn(A).wrapping_add(1);
    line.write(A, &pattern(5 * FULL));
    line.judge = Box::new(|_| Lot::Lost);
    line.turn();
    let (start, end) = (first, first.wrapping_add(4 * 1240));
    // It says that the first byte came, and does not acknowledge it.
    let word = word(B, first, &[(start, end)]);
    line.inject(A, &word);
    line.judge = Box::new(|_| Lot::Arrives);

    line.run_until(Duration::from_secs(3), |line| line.end(B).unread() == 5 * FULL);
}

/// Loses the data segments of A with these numbers.
fn lose(which: &'static [usize]) -> Box<dyn FnMut(&Seen) -> Lot> {
    let mut number = 0;
    Box::new(move |seen| {
        if seen.from == B || seen.segment.payload_len == 0 {
            return Lot::Arrives;
        }
        number += 1;
        if which.contains(&(number - 1)) {
            Lot::Lost
        } else {
            Lot::Arrives
        }
    })
}

/// This lot for each so many-th data segment of A.
fn every(nth: usize, lot: Lot) -> Box<dyn FnMut(&Seen) -> Lot> {
    let mut number = 0;
    Box::new(move |seen| {
        number += usize::from(seen.from == A && seen.segment.payload_len > 0);
        if seen.from == A && number % nth == nth - 1 {
            lot
        } else {
            Lot::Arrives
        }
    })
}

/// An acknowledgement of a side with these blocks.
fn word(from: usize, next: u32, blocks: &[(u32, u32)]) -> Vec<u8> {
    use crate::stack::packet::Flags;
    use crate::tcp::header::{Block, Ends, Header, OptionList};
    use crate::tcp::seq::SeqNr;

    let address = |side: usize| {
        (
            std::net::Ipv4Addr::new(10, 0, 0, u8::try_from(side).unwrap()),
            1000,
        )
            .into()
    };
    let ends = Ends {
        local: address(from),
        remote: address(1 - from),
    };
    let blocks = blocks.iter().map(|(start, end)| Block {
        start: SeqNr(*start),
        end: SeqNr(*end),
    });
    let header = Header {
        flags: Flags::ACK,
        sequence: SeqNr(isn(from).wrapping_add(1)),
        acknowledgement: SeqNr(next),
        window: 1000,
        options: OptionList::arrived(blocks),
    };
    let mut out = vec![0; 100];
    let len = ends.write(&header, [&[], &[]], &mut out).unwrap();
    out.truncate(len);
    out
}
