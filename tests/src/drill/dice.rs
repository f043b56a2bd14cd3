//! Chance from a seed, so that a run can be repeated.

use std::time::Duration;

/// The `SplitMix64` generator.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The same seed gives the same throws.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `count`; 0 for an empty range.
    fn below(&mut self, count: u64) -> u64 {
        self.throw().checked_rem(count).unwrap_or(0)
    }

    /// A time from `shortest` to `longest` in whole milliseconds.
    pub(super) fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let spread = longest.saturating_sub(shortest).as_millis();
        let spread = u64::try_from(spread).unwrap_or(u64::MAX - 1);
        shortest + Duration::from_millis(self.below(spread + 1))
    }

    /// Puts a list in random order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            list.swap(last, other);
        }
    }

    /// So many picks: each of `all` comes once before any comes twice.
    pub(super) fn deal<T: Copy>(&mut self, all: &[T], count: usize) -> Vec<T> {
        let mut dealt = Vec::with_capacity(count);
        while dealt.len() < count && !all.is_empty() {
            let mut deck = all.to_vec();
            self.shuffle(&mut deck);
            dealt.extend(deck.into_iter().take(count - dealt.len()));
        }
        dealt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deals_everything_once_before_anything_twice() {
        for seed in 0..50 {
            let mut dealt = Dice::new(seed).deal(&[1, 2, 3, 4, 5], 10);

            dealt[..5].sort_unstable();
            dealt[5..].sort_unstable();
            assert_eq!(dealt, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5], "seed {seed}");
        }
    }

    #[test]
    fn times_stay_within_their_bounds() {
        let (shortest, longest) = (Duration::from_millis(10), Duration::from_millis(12));
        let mut dice = Dice::new(1);

        for _ in 0..100 {
            let time = dice.between(shortest, longest);
            assert!((shortest..=longest).contains(&time), "{time:?}");
        }
    }
}
