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
                self.change(at, |run| run.fate = Fate::Lost);
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
