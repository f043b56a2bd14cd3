//! A sender alone: what it makes of outages.

use super::*;
use crate::tcp::header::Options;
use crate::tcp::time::{MILLISECOND, SECOND};

const SEGMENT: u64 = 1000;
const TRIP: u64 = 20 * MILLISECOND;

/// A sender whose handshake took a round trip, and the memory of its ring.
struct Side {
    sender: Sender,
    memory: Vec<u8>,
    now: Time,
}

impl Side {
    fn open() -> Self {
        let now = Time::default().after(SECOND);
        let mut sender = Sender::new(SeqNr(7), FIRST_SPAN);
        let terms = Terms {
            segment: 1000,
            window: u16::MAX,
            scale: 4,
            selective: true,
        };
        sender.open(now, terms, Some(TRIP));
        Self {
            sender,
            memory: vec![0; FIRST_SPAN],
            now,
        }
    }

    fn write(&mut self, len: u64) {
        let bytes = vec![0; size(len)];
        assert_eq!(self.sender.write(&mut self.memory, &bytes), bytes.len());
    }

    /// Sends what may leave, and tells where it begins.
    fn turn(&mut self) -> Vec<u64> {
        assert_ne!(self.sender.handle_timers(self.now), Due::End);
        let mut starts = Vec::new();
        while let Some(piece) = self.sender.poll(self.now) {
            self.sender.handle_sent(self.now, piece);
            starts.push(piece.start);
        }
        self.sender.settle(self.now);
        starts
    }

    fn acknowledge(&mut self, next: u64) {
        let ack = Acknowledgement {
            next,
            window: u16::MAX,
            told_at: 0,
            bare: true,
            options: &Options::default(),
        };
        self.sender.handle_ack(self.now, &ack);
    }
}

#[test]
fn an_outage_is_no_round_trip() {
    let mut side = Side::open();
    side.write(10 * SEGMENT);
    let begun = side.now;
    while side.now < begun.after(60 * SECOND) {
        side.turn();
        side.now = side.sender.poll_at().unwrap().max(side.now.after(MILLISECOND));
    }
    let wait = side.sender.round_trip().timeout();

    // The first bytes arrived at last; all others did long ago.
    side.acknowledge(10 * SEGMENT);

    assert!(side.sender.is_acknowledged());
    assert_eq!(side.sender.round_trip().smoothed(), Some(TRIP));
    assert_eq!(side.sender.round_trip().timeout(), wait);
    side.write(SEGMENT);
    assert_eq!(side.turn(), [10 * SEGMENT]);
    side.now = side.now.after(TRIP);
    side.acknowledge(11 * SEGMENT);
    assert!(side.sender.round_trip().timeout() < SECOND);
}

#[test]
fn what_timed_out_leaves_although_younger_bytes_fill_the_window() {
    let mut side = Side::open();
    side.write(SEGMENT);
    assert_eq!(side.turn(), [0]);
    side.now = side.now.after(TRIP);
    side.acknowledge(SEGMENT);

    // From now on nothing arrives, while more and more leaves.
    let begun = side.now;
    let timeout = side.sender.round_trip().timeout();
    while side.now < begun.after(timeout) {
        let last = side.now.after(10 * MILLISECOND) >= begun.after(timeout);
        side.write(if last { 2 * SEGMENT } else { 100 });
        assert!(!side.turn().contains(&SEGMENT) || side.now == begun);
        side.now = side.now.after(10 * MILLISECOND);
    }

    assert_eq!(side.turn(), [SEGMENT]);
    assert!(side.sender.board.flying() > side.sender.window());
}
