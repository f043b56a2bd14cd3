//! What the other side says about what we sent.

use std::ops::Range;

use super::repair::{Repair, Step};
use super::{PeerWindow, Sender};
use crate::tcp::congestion::Delivery;
use crate::tcp::header::{Block, Options};
use crate::tcp::scoreboard::{Fate, Run};
use crate::tcp::time::Time;

/// Acknowledgements in a row that say the same and so prove a loss, where nothing better is known.
const PROOF: u32 = 3;

/// The part of a segment that concerns the sender.
#[derive(Debug)]
pub(in crate::tcp) struct Acknowledgement<'a> {
    /// The next byte that is waited for.
    pub(in crate::tcp) next: u64,
    /// The window that it has from there on, as the header tells it.
    pub(in crate::tcp) window: u16,
    /// Where the segment stands in the other direction.
    pub(in crate::tcp) told_at: i64,
    /// It brings nothing else.
    pub(in crate::tcp) bare: bool,
    pub(in crate::tcp) options: &'a Options,
}

/// The last segment, or a new one, that left to find out whether the others arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailProbe {
    pub(super) end: u64,
    pub(super) again: bool,
}

/// What arrived with one acknowledgement.
#[derive(Debug, Default)]
struct News {
    bytes: u64,
    /// When the newest of what left only once did.
    newest: Option<Time>,
    /// The stream went on by something that left more than once.
    again: bool,
    /// Something arrived that counted as lost and was not sent again.
    risen: bool,
}

impl News {
    fn note(&mut self, run: &Run) {
        self.bytes += run.end - run.start;
        if !run.resent {
            self.newest = self.newest.max(Some(run.sent_at));
            self.risen |= run.fate == Fate::Lost;
        }
    }

    /// How long the newest took, unless it may have waited for what left again before it (Karn's rule).
    fn round_trip(&self, now: Time) -> Option<u64> {
        let newest = self.newest.filter(|_| !self.again)?;
        Some(now.since(newest))
    }
}

impl Sender {
    pub(in crate::tcp) fn handle_ack(&mut self, now: Time, ack: &Acknowledgement<'_>) {
        self.timers.handle_word(now);
        let before = self.acknowledged;
        let edge = self.peer.edge;
        self.take_window(ack);
        let same_window = self.peer.edge == edge;
        let mut news = News::default();
        self.advance(now, ack.next, &mut news);
        let twice = self.take_blocks(now, ack, &mut news);
        let advanced = self.acknowledged > before;
        let round_trip = news.round_trip(now);
        if let Some(took) = round_trip {
            self.round_trip.sample(now, took);
        }
        if advanced {
            // Where a timeout may have come too early, the next one waits until a round trip is known.
            if !(news.again && news.risen) {
                self.round_trip.reset_backoff();
            }
            self.timers.handle_progress(now);
            self.repeated = 0;
        } else if ack.bare && same_window && !self.selective && !self.board.is_empty() {
            self.repeated += 1;
        }
        self.explain(ack, advanced, twice);
        self.go_on(&news, advanced);
        let new_round = self.begin_round();
        self.look_for_losses(now);
        self.deliver(now, news.bytes, round_trip, new_round);
        if news.bytes > 0 || advanced {
            self.timers.touch();
        }
        self.settle(now);
    }

    /// Ends a repair, or goes on with it where nothing is told of what lies behind a gap.
    fn go_on(&mut self, news: &News, advanced: bool) {
        if news.risen && matches!(self.repair, Repair::Timeout(_)) {
            self.board.find_again();
            self.control.undo();
            self.repair = Repair::None;
        }
        if advanced && self.repair.is_over(self.acknowledged) {
            self.repair = Repair::None;
            self.rack.handle_recovered();
        } else if advanced && !self.selective && matches!(self.repair, Repair::Recovery(_)) {
            self.board.lose_first(self.segment);
        }
        if self.repeated == PROOF {
            self.board.lose_first(self.segment);
            self.recover();
        }
    }

    /// Finds what the latest arrivals prove to be lost, and begins to repair it.
    pub(super) fn look_for_losses(&mut self, now: Time) {
        if !self.board.is_doubtful() {
            self.timers.set_reordering(None);
            return;
        }
        let proven = matches!(self.repair, Repair::Recovery(_)) || self.board.arrived() >= 3 * self.segment;
        let trip = &self.round_trip;
        let patience = self.rack.patience(trip.minimum(), trip.smoothed(), proven);
        let losses = self.board.find_losses(now, &self.rack, patience);
        self.timers.set_reordering(losses.again);
        if losses.found > 0 {
            self.recover();
        }
    }

    fn recover(&mut self) {
        if matches!(self.repair, Repair::None) {
            self.control.handle_loss();
            self.unexplained = 0;
            self.undoable = true;
            self.repair = Repair::recover(self.sent, self.sent - self.acknowledged);
            if let Repair::Recovery(recovery) = &mut self.repair {
                recovery.handle_step(&Step {
                    arrived: 0,
                    flying: self.board.flying(),
                    target: self.control.window(),
                    segment: self.segment,
                });
            }
        }
    }

    fn take_window(&mut self, ack: &Acknowledgement<'_>) {
        let window = u64::from(ack.window) << self.peer.scale;
        let edge = ack.next + window;
        let is_newer = ack.next > self.acknowledged
            || ack.told_at > self.peer.told_at
            || (ack.told_at == self.peer.told_at && edge > self.peer.edge);
        if is_newer && ack.next >= self.acknowledged {
            self.peer = PeerWindow {
                edge,
                largest: self.peer.largest.max(window),
                told_at: ack.told_at,
                ..self.peer
            };
        }
    }

    fn advance(&mut self, now: Time, next: u64, news: &mut News) {
        if next <= self.acknowledged {
            return;
        }
        let (rack, least) = (&mut self.rack, self.round_trip.minimum());
        self.board.acknowledge(next, |run| {
            news.note(run);
            news.again |= run.resent;
            rack.note(run, now, least);
        });
        self.acknowledged = next;
        self.ring.advance(next.min(self.written));
        if self.ring.begin() == self.written {
            self.ring.rewind();
        }
    }

    /// Takes what arrived behind gaps; returns what the other side says that it got twice (RFC 2883).
    fn take_blocks(&mut self, now: Time, ack: &Acknowledgement<'_>, news: &mut News) -> Option<Range<i64>> {
        if !self.selective {
            return None;
        }
        let place = |block: Block| {
            let start = self.numbering.offset(block.start, self.acknowledged);
            start..self.numbering.offset(block.end, self.acknowledged)
        };
        let mut ranges = ack.options.blocks().map(place);
        let first = ranges.next()?;
        let second = ranges.next();
        let is_twice = first.start < ack.next.cast_signed()
            || second
                .as_ref()
                .is_some_and(|second| second.start <= first.start && first.end <= second.end);
        let twice = is_twice.then(|| first.clone());
        let told = (!is_twice).then_some(first);
        let (rack, least) = (&mut self.rack, self.round_trip.minimum());
        for range in told.into_iter().chain(second).chain(ranges) {
            let (Ok(start), Ok(end)) = (u64::try_from(range.start), u64::try_from(range.end)) else {
                continue;
            };
            if self.acknowledged <= start && start < end && end <= self.sent {
                self.board.arrive(start, end, |run| {
                    news.note(run);
                    rack.note(run, now, least);
                });
            }
        }
        twice
    }

    /// Draws the conclusion from a probe of the tail (RFC 8985, 7.4), and from what was sent again for nothing.
    fn explain(&mut self, ack: &Acknowledgement<'_>, advanced: bool, twice: Option<Range<i64>>) {
        let probe = self.tail_probe.filter(|probe| ack.next >= probe.end);
        let probe_arrived_twice = twice
            .as_ref()
            .zip(self.tail_probe)
            .is_some_and(|(twice, probe)| twice.end == probe.end.cast_signed());
        if let Some(probe) = probe {
            let repeated = !advanced && ack.bare && ack.next == probe.end;
            if !probe.again || probe_arrived_twice || repeated {
                self.tail_probe = None;
            } else if ack.next > probe.end {
                // The probe filled a gap.
                self.tail_probe = None;
                self.control.handle_loss();
            }
        }
        let Some(twice) = twice.filter(|_| self.unexplained > 0) else {
            return;
        };
        if !probe_arrived_twice {
            self.rack.handle_duplicate();
        }
        let len = u64::try_from(twice.end - twice.start).unwrap_or(0);
        self.unexplained = self.unexplained.saturating_sub(len);
        if self.unexplained == 0 && std::mem::take(&mut self.undoable) {
            self.control.undo();
            if matches!(self.repair, Repair::Recovery(_)) {
                self.repair = Repair::None;
            }
        }
    }

    /// Whether a new round trip began.
    fn begin_round(&mut self) -> bool {
        let round = &mut self.round;
        if self.acknowledged <= round.ends_at {
            return false;
        }
        round.ends_at = self.sent;
        round.most = [self.board.flying(), round.most[0]];
        round.limited = [false, round.limited[0]];
        true
    }

    /// Tells those who decide how much may be under way.
    fn deliver(&mut self, now: Time, bytes: u64, round_trip: Option<u64>, new_round: bool) {
        let smoothed = self.round_trip.smoothed();
        let [most, most_before] = self.round.most;
        let window = self.control.window();
        let limited = match &mut self.repair {
            Repair::Recovery(recovery) => {
                recovery.handle_step(&Step {
                    arrived: bytes,
                    flying: self.board.flying(),
                    target: window,
                    segment: self.segment,
                });
                None
            }
            Repair::Timeout(_) => Some(true),
            Repair::None => {
                let half_used = self.control.is_starting() && window < 2 * most.max(most_before);
                Some(half_used || self.round.limited != [false; 2])
            }
        };
        if let Some(limited) = limited.filter(|_| bytes > 0) {
            self.control.handle_delivery(&Delivery {
                now,
                bytes,
                round_trip,
                smoothed,
                new_round,
                limited,
            });
        }
        self.pacer.set(now, self.control.pace(smoothed));
    }
}
