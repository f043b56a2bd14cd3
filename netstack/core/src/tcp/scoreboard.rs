//! What was sent and not yet acknowledged, and what became of it (RFC 6675).
//!
//! Neighbouring bytes that left at the same moment and share a fate are one run, so that a batch of segments costs as
//! much as one of them.

use std::collections::VecDeque;

use super::rack::Rack;
use super::time::Time;

/// Runs from which on selective acknowledgements are not looked at any longer; an honest receiver keeps far below.
const MOST: usize = 8192;

/// Neighbouring bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) sent_at: Time,
    pub(super) fate: Fate,
    /// They left more than once.
    pub(super) resent: bool,
}

/// What became of bytes that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Flying,
    Lost,
    /// They arrived behind a gap.
    Arrived,
}

impl Run {
    fn len(&self) -> u64 {
        self.end - self.start
    }

    fn continues(&self, before: &Self) -> bool {
        let alike = self.fate == before.fate
            && (self.fate == Fate::Arrived
                || (self.sent_at == before.sent_at && self.resent == before.resent));
        before.end == self.start && alike
    }
}

#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    runs: VecDeque<Run>,
    flying: u64,
    lost: u64,
    arrived: u64,
    /// Those of the flying bytes that left more than once.
    resent: u64,
}

/// Outcome of [`Scoreboard::find_losses`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Losses {
    /// Bytes found lost now.
    pub(super) found: u64,
    /// When to look again, if something may still be on the way.
    pub(super) again: Option<Time>,
}

impl Scoreboard {
    /// Bytes that are thought to be on the way.
    pub(super) fn flying(&self) -> u64 {
        self.flying
    }

    /// Bytes that arrived behind a gap.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether acknowledgements may show a loss; without gaps and repetitions there is nothing to look for.
    pub(super) fn is_doubtful(&self) -> bool {
        self.arrived > 0 || self.resent > 0 || self.lost > 0
    }

    pub(super) fn last(&self) -> Option<&Run> {
        self.runs.back()
    }

    /// New bytes left.
    pub(super) fn sent(&mut self, start: u64, end: u64, now: Time) {
        self.flying += end - start;
        self.runs.push_back(Run {
            start,
            end,
            sent_at: now,
            fate: Fate::Flying,
            resent: false,
        });
        self.merge(self.runs.len() - 1);
    }

    /// Lost bytes left again, or others as a probe.
    pub(super) fn resent(&mut self, start: u64, end: u64, now: Time) {
        let mut at = self.runs.partition_point(|run| run.end <= start);
        if self.runs.get(at).is_some_and(|run| run.start < start) {
            self.split(at, start);
            at += 1;
        }
        while let Some(run) = self.runs.get(at).copied().filter(|run| run.start < end) {
            if run.end > end {
                self.split(at, end);
            }
            if run.fate != Fate::Arrived {
                self.change(at, |run| {
                    run.fate = Fate::Flying;
                    run.resent = true;
                    run.sent_at = now;
                });
            }
            at += 1;
        }
        let first = self.runs.partition_point(|run| run.end <= start);
        self.merge(first);
    }

    /// Everything before an offset arrived; tells what is news of that.
    pub(super) fn acknowledge(&mut self, to: u64, mut tell: impl FnMut(&Run)) {
        while let Some(front) = self.runs.front()
            && front.start < to
        {
            if front.end > to {
                self.split(0, to);
            }
            let Some(run) = self.runs.pop_front() else { return };
            self.count(&run, u64::wrapping_sub);
            if run.fate != Fate::Arrived {
                tell(&run);
            }
        }
    }

    /// These bytes arrived behind a gap; tells what is news of that.
    pub(super) fn arrive(&mut self, start: u64, end: u64, mut tell: impl FnMut(&Run)) {
        if self.runs.len() >= MOST {
            return;
        }
        let first = self.runs.partition_point(|run| run.end <= start);
        let mut at = first;
        while let Some(run) = self.runs.get(at).copied().filter(|run| run.start < end) {
            if run.fate == Fate::Arrived {
                at += 1;
                continue;
            }
            if run.start < start {
                self.split(at, start);
                at += 1;
                continue;
            }
            if run.end > end {
                self.split(at, end);
            }
            if let Some(run) = self.runs.get(at) {
                tell(run);
            }
            self.change(at, |run| run.fate = Fate::Arrived);
            at += 1;
        }
        let mut at = at.min(self.runs.len().saturating_sub(1));
        while at > first.saturating_sub(1) {
            self.merge(at);
            at -= 1;
        }
    }

    /// Finds what must have arrived by now if it was not lost: something that left later did (RFC 8985, 6.2).
    pub(super) fn find_losses(&mut self, now: Time, rack: &Rack, patience: u64) -> Losses {
        let mut losses = Losses {
            found: 0,
            again: None,
        };
        for at in 0..self.runs.len() {
            let Some(run) = self.runs.get(at).copied() else {
                break;
            };
            if run.fate != Fate::Flying || !rack.proves(&run) {
                continue;
            }
            let due = run.sent_at.after(rack.round_trip() + patience);
            if due <= now {
                losses.found += run.len();
                self.change(at, |run| run.fate = Fate::Lost);
            } else {
                losses.again = losses.again.max(Some(due));
            }
        }
        losses
    }

    /// Nothing came for long: the first bytes are lost, and everything that left so long ago.
    pub(super) fn expire(&mut self, now: Time, round_trip: u64) {
        // Whoever says that the next byte arrived, and does not acknowledge it, has thrown it away.
        let forgotten = self.runs.front().is_some_and(|run| run.fate == Fate::Arrived);
        for at in 0..self.runs.len() {
            let Some(run) = self.runs.get(at).copied() else {
                break;
            };
            let kept = match run.fate {
                Fate::Arrived => !forgotten,
                Fate::Flying => at > 0 && run.sent_at.after(round_trip) > now,
                Fate::Lost => true,
            };
            if !kept {
                self.change(at, |run| {
                    // Neighbours that arrived are one run, whenever they left.
                    run.resent |= run.fate == Fate::Arrived;
                    run.fate = Fate::Lost;
                });
            }
        }
    }

    /// The first bytes are lost, at most so many.
    pub(super) fn lose_first(&mut self, len: u64) {
        let Some(first) = self.runs.front().copied().filter(|run| run.fate == Fate::Flying) else {
            return;
        };
        if first.len() > len {
            self.split(0, first.start + len);
        }
        self.change(0, |run| run.fate = Fate::Lost);
    }

    /// Nothing was lost after all.
    pub(super) fn find_again(&mut self) {
        for at in 0..self.runs.len() {
            if self.runs.get(at).is_some_and(|run| run.fate == Fate::Lost) {
                self.change(at, |run| run.fate = Fate::Flying);
            }
        }
    }

    pub(super) fn first_lost(&self) -> Option<&Run> {
        if self.lost == 0 {
            return None;
        }
        self.runs.iter().find(|run| run.fate == Fate::Lost)
    }

    /// Gives its memory back, if nothing is in it.
    pub(super) fn shrink(&mut self) {
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }

    fn split(&mut self, at: usize, offset: u64) {
        if let Some(run) = self.runs.get_mut(at) {
            let behind = Run {
                start: offset,
                ..*run
            };
            run.end = offset;
            self.runs.insert(at + 1, behind);
        }
    }

    /// Joins a run with the one before.
    fn merge(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1) else { return };
        if let (Some(left), Some(right)) = (self.runs.get(before).copied(), self.runs.get(at).copied())
            && right.continues(&left)
        {
            self.runs.remove(at);
            if let Some(left) = self.runs.get_mut(before) {
                left.end = right.end;
            }
        }
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Run)) {
        let Some(mut run) = self.runs.get(at).copied() else {
            return;
        };
        self.count(&run, u64::wrapping_sub);
        change(&mut run);
        self.count(&run, u64::wrapping_add);
        if let Some(place) = self.runs.get_mut(at) {
            *place = run;
        }
    }

    fn count(&mut self, run: &Run, operation: fn(u64, u64) -> u64) {
        let len = run.len();
        match run.fate {
            Fate::Flying => {
                self.flying = operation(self.flying, len);
                if run.resent {
                    self.resent = operation(self.resent, len);
                }
            }
            Fate::Lost => self.lost = operation(self.lost, len),
            Fate::Arrived => self.arrived = operation(self.arrived, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each byte is, byte by byte.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Naive {
        fate: Fate,
        resent: bool,
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_bytes(steps in prop::collection::vec((0..7u8, 0..200u64, 1..30u64), 1..80)) {
            let mut board = Scoreboard::default();
            let mut naive: Vec<Naive> = Vec::new();
            let mut acknowledged = 0;
            let mut now = Time::default();
            for (step, at, len) in steps {
                now = now.after(len % 3);
                let sent = naive.len() as u64;
                let (start, end) = (at.clamp(acknowledged, sent), (at + len).clamp(acknowledged, sent));
                match step {
                    0 | 1 => {
                        board.sent(sent, sent + len, now);
                        naive.extend((0..len).map(|_| Naive { fate: Fate::Flying, resent: false }));
                    }
                    2 => {
                        let mut told = 0;
                        board.acknowledge(end, |run| told += run.end - run.start);
                        let news = naive[size(acknowledged)..size(end.max(acknowledged))]
                            .iter().filter(|byte| byte.fate != Fate::Arrived).count();
                        prop_assert_eq!(told, news as u64);
                        acknowledged = acknowledged.max(end);
                    }
                    3 => {
                        board.arrive(start, end, |_| {});
                        naive[size(start)..size(end)].iter_mut().for_each(|byte| byte.fate = Fate::Arrived);
                    }
                    4 if start < end => {
                        board.resent(start, end, now);
                        for byte in &mut naive[size(start)..size(end)] {
                            if byte.fate != Fate::Arrived {
                                *byte = Naive { fate: Fate::Flying, resent: true };
                            }
                        }
                    }
                    5 => {
                        let forgotten = naive.get(size(acknowledged)).is_some_and(|byte| byte.fate == Fate::Arrived);
                        board.expire(now.after(1000), 0);
                        for byte in &mut naive[size(acknowledged)..] {
                            if byte.fate != Fate::Arrived || forgotten {
                                byte.resent |= byte.fate == Fate::Arrived;
                                byte.fate = Fate::Lost;
                            }
                        }
                    }
                    6 => {
                        board.find_again();
                        for byte in &mut naive[size(acknowledged)..] {
                            if byte.fate == Fate::Lost {
                                byte.fate = Fate::Flying;
                            }
                        }
                    }
                    _ => {}
                }
                let rest = &naive[size(acknowledged)..];
                let count = |wanted: Fate| rest.iter().filter(|byte| byte.fate == wanted).count() as u64;
                prop_assert_eq!(board.flying(), count(Fate::Flying));
                prop_assert_eq!(board.lost, count(Fate::Lost));
                prop_assert_eq!(board.arrived(), count(Fate::Arrived));
                let resent = rest.iter().filter(|byte| byte.fate == Fate::Flying && byte.resent).count() as u64;
                prop_assert_eq!(board.resent, resent);
                let lost = rest.iter().position(|byte| byte.fate == Fate::Lost);
                prop_assert_eq!(
                    board.first_lost().map(|run| run.start),
                    lost.map(|at| acknowledged + at as u64)
                );
            }
        }
    }

    #[test]
    fn a_batch_is_one_run() {
        let mut board = Scoreboard::default();
        for at in 0..100 {
            board.sent(at * 10, at * 10 + 10, Time::default());
        }
        assert_eq!(board.runs.len(), 1);

        for at in (1..100).rev() {
            board.arrive(at * 10, at * 10 + 10, |_| {});
        }

        assert_eq!(board.runs.len(), 2);
    }

    #[test]
    fn what_left_before_an_arrival_is_lost_after_a_round_trip() {
        let (mut board, mut rack) = (Scoreboard::default(), Rack::default());
        let start = Time::default().after(1000);
        board.sent(0, 10, start);
        board.sent(10, 20, start.after(5));
        board.sent(20, 30, start.after(10));
        let now = start.after(105);
        board.arrive(10, 20, |run| rack.note(run, now, None));

        let early = board.find_losses(now, &rack, 25);
        assert_eq!((early.found, early.again), (0, Some(start.after(125))));
        let late = board.find_losses(start.after(125), &rack, 25);

        assert_eq!((late.found, late.again), (10, None));
        assert_eq!(board.flying(), 10, "what left later may still come");
    }

    fn size(bytes: u64) -> usize {
        usize::try_from(bytes).unwrap()
    }
}
