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
    /// The other side was told of it as it is.
    told: bool,
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
            let arrived = Arrived {
                start,
                end,
                turn,
                told: false,
            };
            self.list.insert(first, arrived);
            return Inserted::New;
        };
        let known = touched
            .iter()
            .any(|range| range.start <= start && end <= range.end);
        let whole = Arrived {
            start: low.start.min(start),
            end: high.end.max(end),
            turn: self.turn,
            told: false,
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

    /// Whether one grew that nobody was told of.
    pub(super) fn has_news(&self) -> bool {
        self.list.iter().any(|range| !range.told)
    }

    /// Some to tell of: first those that nobody was told of, then those that grew most recently (RFC 2018, 4).
    pub(super) fn tell<const COUNT: usize>(&mut self) -> impl Iterator<Item = Range<u64>> + use<COUNT> {
        let mut chosen = [None::<(bool, u64, usize)>; COUNT];
        for (at, range) in self.list.iter().enumerate() {
            let mut next = Some((!range.told, range.turn, at));
            for place in &mut chosen {
                if *place < next {
                    std::mem::swap(place, &mut next);
                }
            }
        }
        chosen
            .map(|place| {
                let (_, _, at) = place?;
                let range = self.list.get_mut(at)?;
                range.told = true;
                Some(range.start..range.end)
            })
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_a_set_of_numbers_would(steps in prop::collection::vec((0..400u64, 1..20u64), 1..60)) {
            let mut ranges = Ranges::default();
            let mut naive = BTreeSet::new();
            for (start, len) in steps {
                let known = (start..start + len).all(|at| naive.contains(&at));
                let inserted = ranges.insert(start, start + len);
                prop_assert_eq!(inserted == Inserted::Known, known);
                naive.extend(start..start + len);
                let held: BTreeSet<u64> = ranges.list.iter().flat_map(|range| range.start..range.end).collect();
                prop_assert_eq!(&held, &naive);
                prop_assert!(ranges.list.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
            let joined = ranges.join(100);
            let naive_end = (100..1000).find(|at| !naive.contains(at)).unwrap();
            prop_assert_eq!(joined, naive_end);
            prop_assert!(ranges.list.iter().all(|range| range.start > joined));
        }
    }

    #[test]
    fn is_bounded() {
        let mut ranges = Ranges::default();
        for at in 0..100 {
            ranges.insert(at * 10, at * 10 + 5);
        }

        assert_eq!(ranges.list.len(), MOST);
        assert_eq!(ranges.insert(5, 7), Inserted::New, "it makes one longer");
        assert_eq!(ranges.insert(10_000, 10_001), Inserted::Refused);
    }

    #[test]
    fn news_are_told_first_and_once() {
        let mut ranges = Ranges::default();
        for at in [50, 10, 30, 70] {
            ranges.insert(at, at + 5);
        }

        assert_eq!(ranges.tell::<3>().collect::<Vec<_>>(), [70..75, 30..35, 10..15]);
        assert!(ranges.has_news());
        assert_eq!(ranges.tell::<3>().next(), Some(50..55));
        assert!(!ranges.has_news());

        ranges.insert(15, 17);
        assert_eq!(ranges.tell::<3>().collect::<Vec<_>>(), [10..17, 70..75, 30..35]);
    }

    #[test]
    fn nothing_lies_behind_the_end() {
        let mut ranges = Ranges::default();
        ranges.insert(10, 20);
        ranges.insert(30, 40);

        ranges.truncate(15);

        assert_eq!(ranges.furthest(), Some(15));
    }
}
