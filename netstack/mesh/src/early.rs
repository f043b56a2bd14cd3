//! What arrives before the map names its sender. Pure.
//!
//! A newcomer may OFFER, or start a handshake, a moment before our map lists it. The last word of each such
//! stranger is kept for a few seconds, so that its first try succeeds.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long a word is kept.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Strangers that are remembered; beyond that, new ones are forgotten at once.
const MAX_STRANGERS: usize = 64;

/// The last word of each stranger.
#[derive(Debug)]
pub(crate) struct Early<K, V> {
    words: HashMap<K, (Instant, V)>,
}

impl<K: Eq + Hash, V> Default for Early<K, V> {
    fn default() -> Self {
        Self {
            words: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash, V> Early<K, V> {
    /// Keeps a word; an earlier one of the same stranger is replaced.
    pub(crate) fn keep(&mut self, now: Instant, stranger: K, word: V) {
        self.words
            .retain(|_, (kept, _)| now.saturating_duration_since(*kept) < KEPT_FOR);
        if self.words.len() < MAX_STRANGERS || self.words.contains_key(&stranger) {
            self.words.insert(stranger, (now, word));
        }
    }

    /// Takes the word of somebody who is a stranger no more.
    pub(crate) fn take(&mut self, now: Instant, known: &K) -> Option<V> {
        let (kept, word) = self.words.remove(known)?;
        (now.saturating_duration_since(kept) < KEPT_FOR).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_word_for_a_while() {
        let start = Instant::now();
        let mut early = Early::default();
        early.keep(start, 1, "offer");
        early.keep(start, 1, "offer again");
        early.keep(start, 2, "offer");

        assert_eq!(early.take(start, &1), Some("offer again"));
        assert_eq!(early.take(start, &1), None);
        assert_eq!(early.take(start + KEPT_FOR, &2), None);
    }

    #[test]
    fn a_crowd_of_strangers_is_bounded() {
        let start = Instant::now();
        let mut early = Early::default();
        for stranger in 0..1000 {
            early.keep(start, stranger, ());
        }

        assert_eq!(early.words.len(), MAX_STRANGERS);
    }
}
