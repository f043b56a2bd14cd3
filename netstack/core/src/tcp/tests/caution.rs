//! Segments out of place: resets and SYNs in the window, acknowledgements of nothing, the end of both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::line::*;
use crate::stack::packet::Flags;
use crate::tcp::header::{Ends, Header, OptionList};
use crate::tcp::seq::SeqNr;
use crate::tcp::{Phase, Read};

#[test]
fn only_the_expected_reset_ends_a_connection() {
    let mut line = Line::open(Settings::default());
    for ahead in [1, 1000, 200_000, u32::MAX] {
        line.inject(
            A,
            &said(Flags::RST, isn(B).wrapping_add(1).wrapping_add(ahead), 0),
        );
        line.run_for(Duration::from_millis(150));
        assert_eq!(line.phase(A), Some(Phase::Open), "{ahead}");
    }
    let answers = line.log.iter().filter(|seen| seen.from == A).count();
    assert_eq!(answers, 3, "one for each that lay in the window");

    line.inject(A, &said(Flags::RST, isn(B).wrapping_add(1), 0));

    assert_eq!(line.phase(A), Some(Phase::Closed));
}

#[test]
fn a_syn_is_answered_and_changes_nothing() {
    let mut line = Line::open(Settings::default());
    line.inject(A, &said(Flags::SYN, isn(B).wrapping_add(500), 0));
    line.run_for(Duration::from_millis(1));

    assert_eq!(line.log.len(), 1);
    assert_eq!(line.log[0].segment.acknowledgement, isn(B).wrapping_add(1));
    assert_eq!(line.phase(A), Some(Phase::Open));
}

#[test]
fn a_flood_out_of_place_is_not_echoed() {
    let mut line = Line::open(Settings::default());
    for _ in 0..1000 {
        line.inject(A, &said(Flags::SYN, isn(B), 0));
        line.turn();
    }

    assert_eq!(line.log.len(), 1);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_none() {
    let mut line = Line::open(Settings::default());
    let next = isn(A).wrapping_add(1);
    line.inject(
        A,
        &said(Flags::ACK, isn(B).wrapping_add(1), next.wrapping_add(5000)),
    );

    line.carry(A, 20_000);
    line.carry(B, 20_000);
}

#[test]
fn an_answer_to_another_dial_is_reset() {
    let mut line = Line::new(Settings::default());
    line.judge = Box::new(|_| Lot::Lost);
    line.turn();
    line.log.clear();

    line.inject(A, &said(Flags::ACK, 5, 1234));
    line.turn();

    assert_eq!(line.log.len(), 1);
    assert!(line.log[0].segment.flags.rst());
    assert_eq!(line.log[0].segment.sequence, 1234);
    assert_eq!(line.phase(A), Some(Phase::Opening));
}

#[test]
fn a_refused_dial_ends() {
    let mut line = Line::new(Settings::default());
    line.judge = Box::new(|_| Lot::Lost);
    line.turn();
    line.inject(A, &said(Flags::RST.and(Flags::ACK), 0, 99));
    assert_eq!(line.phase(A), Some(Phase::Opening), "not an answer to our SYN");

    line.inject(A, &said(Flags::RST.and(Flags::ACK), 0, isn(A).wrapping_add(1)));

    assert_eq!(line.phase(A), Some(Phase::Closed));
}

#[test]
fn lost_syns_leave_again() {
    let mut line = Line::new(Settings::default());
    let mut left = 4;
    line.judge = Box::new(move |seen| {
        let lost = seen.segment.flags.syn() && left > 0;
        left -= i32::from(lost);
        if lost { Lot::Lost } else { Lot::Arrives }
    });

    line.run_until(Duration::from_mins(1), |line| line.phase(B) == Some(Phase::Open));

    assert!(line.elapsed() < Duration::from_secs(20), "{:?}", line.elapsed());
    line.carry(A, 10_000);
}

#[test]
fn both_close_in_any_order() {
    for (first, apart) in [(A, 0), (B, 0), (A, 5), (B, 5), (A, 100), (B, 100)] {
        let mut line = Line::open(Settings::default());
        line.write(first, b"the end");
        line.end(first).close();
        line.run_for(apart * MILLIS);
        line.end(1 - first).close();
        line.run_for(Duration::from_secs(1));

        let phases = [line.phase(A), line.phase(B)];
        let over = |phase| matches!(phase, Some(Phase::TimeWait | Phase::Closed));
        assert!(phases.into_iter().all(over), "{first} {apart}: {phases:?}");
        assert!(
            phases.contains(&Some(Phase::TimeWait)),
            "{first} {apart}: {phases:?}"
        );
        assert_eq!(line.read(1 - first), b"the end");
    }
}

#[test]
fn an_end_that_comes_by_itself_wakes_the_reader() {
    let mut line = Line::open(Settings::default());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert_eq!(line.end(B).read(10, &waker, |_| {}), Read::Pending);

    line.end(A).close();
    line.run_for(Duration::from_millis(15));

    assert!(woken.0.load(Ordering::Relaxed));
    assert_eq!(line.end(B).read(10, &waker, |_| {}), Read::Finished);
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_probe_is_answered_whatever_the_window_is() {
    let mut line = Line::open(Settings::default());
    line.end(A).probe();
    line.run_for(Duration::from_millis(50));

    assert_eq!(line.log.iter().filter(|seen| seen.from == B).count(), 1);
    assert_eq!(line.end(B).unread(), 0);
}

/// A segment of B.
fn said(flags: Flags, sequence: u32, acknowledgement: u32) -> Vec<u8> {
    let address = |last| (std::net::Ipv4Addr::new(10, 0, 0, last), 1000).into();
    let ends = Ends {
        local: address(1),
        remote: address(0),
    };
    let header = Header {
        flags,
        sequence: SeqNr(sequence),
        acknowledgement: SeqNr(acknowledgement),
        window: 1000,
        options: OptionList::NONE,
    };
    let mut out = vec![0; 40];
    ends.write(&header, [&[], &[]], &mut out).unwrap();
    out
}
