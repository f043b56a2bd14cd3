//! What arrived behind a gap.

use std::ops::Range;

/// Ranges kept at the most; a segment that would make another one is dropped.
const MOST: usize = 64;

/// Ranges of bytes, in order and apart from each other.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    list: Vec<Arrived>,
    /// Counts arrivals.
    turn: u64,
}

#[derive(Debug, Clone, Copy)]
struct Arrived {
    start: u64,
    end: u64,
    /// When it last became larger.
    turn: u64,
}

/// Whether a range was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// At least a part of it is news.
    New,
    /// All of it was there.
    Known,
    /// There is no place for it.
    Refused,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The end of the last one.
    pub(super) fn furthest(&self) -> Option<u64> {
        self.list.last().map(|last| last.end)
    }

    pub(super) fn insert(&mut self, start: u64, end: u64) -> Inserted {
        self.turn += 1;
        let first = self.list.partition_point(|range| range.end < start);
        let behind = self.list.partition_point(|range| range.start <= end);
        let touched = self.list.get(first..behind).unwrap_or_default();
        let (Some(low), Some(high)) = (touched.first(), touched.last()) else {
            if self.list.len() >= MOST {
                return Inserted::Refused;
            }
            let turn = self.turn;
            self.list.insert(first, Arrived { start, end, turn });
            return Inserted::New;
        };
        let known = touched
            .iter()
            .any(|range| range.start <= start && end <= range.end);
        let whole = Arrived {
            start: low.start.min(start),
            end: high.end.max(end),
            turn: self.turn,
        };
        self.list.splice(first..behind, [whole]);
        if known { Inserted::Known } else { Inserted::New }
    }

    /// Everything before an offset arrived: takes what follows it without a gap and says where that ends.
    pub(super) fn join(&mut self, next: u64) -> u64 {
        let behind = self.list.partition_point(|range| range.start <= next);
        let end = self
            .list
            .drain(..behind)
            .next_back()
            .map_or(next, |last| last.end.max(next));
        if self.list.is_empty() {
            self.list = Vec::new();
        }
        end
    }

    /// Forgets what lies behind the end of the stream.
    pub(super) fn truncate(&mut self, end: u64) {
        self.list.retain_mut(|range| {
            range.end = range.end.min(end);
            range.start < range.end
        });
    }

    /// Those that grew most recently first (RFC 2018, 4).
    pub(super) fn recent<const COUNT: usize>(&self) -> impl Iterator<Item = Range<u64>> {
        let mut chosen = [None::<Arrived>; COUNT];
        for range in &self.list {
            let mut next = Some(*range);
            for place in &mut chosen {
                if place.map(|other| other.turn) < next.map(|range| range.turn) {
                    std::mem::swap(place, &mut next);
                }
            }
        }
        chosen.into_iter().flatten().map(|range| range.start..range.end)
    }
}
