//! What became of the load, counted for each fault.
//!
//! A *lane* does one thing after the other. A *window* is the time of one fault: from its begin until everything
//! works again. Times are arguments, so that the counting can be tested.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Reasons that a window keeps.
const EXAMPLES: usize = 4;

/// What a lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests with an answer at once.
    Http,
    /// Messages over a WebSocket.
    WebSocket,
    /// Events, and long bodies in both directions.
    Stream,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Http, Self::WebSocket, Self::Stream];
}

/// What became of the load of one kind in one window, or in several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// What ended, well or not.
    pub(super) sent: u64,
    /// What ended badly.
    pub(super) lost: u64,
    /// What was begun after its lane had recovered, and lost nevertheless.
    pub(super) relapsed: u64,
    /// Longest time without a success in any lane, in milliseconds.
    pub(super) gap_ms: u64,
    /// Longest time that something took to end badly, in milliseconds.
    pub(super) told_ms: u64,
}

impl Tally {
    /// Adds another window to this one.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.relapsed += other.relapsed;
        self.gap_ms = self.gap_ms.max(other.gap_ms);
        self.told_ms = self.told_ms.max(other.told_ms);
    }
}

/// A window that has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// For each kind in the order of [`Kind::ALL`].
    pub(super) tallies: [Tally; 3],
    /// Reasons of the first losses.
    pub(super) examples: Vec<String>,
}

/// The state of all lanes. `handle_*` of the lanes go in, a [`Window`] comes out.
#[derive(Debug)]
pub(super) struct Ledger {
    lanes: Vec<Lane>,
    examples: Vec<String>,
    healed: Option<Instant>,
}

#[derive(Debug)]
struct Lane {
    name: String,
    kind: Kind,
    tally: Tally,
    last_success: Instant,
    recovered: Option<Instant>,
}

impl Ledger {
    /// Without lanes.
    pub(super) fn new() -> Self {
        Self {
            lanes: Vec::new(),
            examples: Vec::new(),
            healed: None,
        }
    }

    /// Adds a lane and returns its number.
    pub(super) fn add_lane(&mut self, name: String, kind: Kind, now: Instant) -> usize {
        self.lanes.push(Lane {
            name,
            kind,
            tally: Tally::default(),
            last_success: now,
            recovered: None,
        });
        self.lanes.len() - 1
    }

    /// Something ended well.
    pub(super) fn handle_success(&mut self, lane: usize, begun: Instant, now: Instant) {
        let healed = self.healed;
        let Some(lane) = self.lanes.get_mut(lane) else {
            return;
        };
        lane.tally.sent += 1;
        lane.succeed(now);
        if healed.is_some_and(|healed| begun >= healed) {
            lane.recovered.get_or_insert(now);
        }
    }

    /// A part of something long that began then arrived. It may come from a buffer on this side, so that only what
    /// was begun after the fault shows that the lane has recovered.
    pub(super) fn handle_progress(&mut self, lane: usize, begun: Instant, now: Instant) {
        let healed = self.healed;
        let Some(lane) = self.lanes.get_mut(lane) else {
            return;
        };
        lane.succeed(now);
        if healed.is_some_and(|healed| begun >= healed) {
            lane.recovered.get_or_insert(now);
        }
    }

    /// Something ended badly.
    pub(super) fn handle_loss(&mut self, lane: usize, begun: Instant, now: Instant, why: &str) {
        let Some(lane) = self.lanes.get_mut(lane) else {
            return;
        };
        lane.tally.sent += 1;
        lane.tally.lost += 1;
        lane.tally.told_ms = lane.tally.told_ms.max(millis(now.duration_since(begun)));
        let relapse = lane.recovered.is_some_and(|recovered| begun > recovered);
        lane.tally.relapsed += u64::from(relapse);
        if self.examples.len() < EXAMPLES || (relapse && self.examples.len() < 2 * EXAMPLES) {
            let again = if relapse { " (after it had recovered)" } else { "" };
            self.examples.push(format!("{}{again}: {why:.200}", lane.name));
        }
    }

    /// Begins a window: a fault is about to happen.
    pub(super) fn open(&mut self, now: Instant) {
        self.healed = None;
        self.examples.clear();
        for lane in &mut self.lanes {
            lane.tally = Tally::default();
            lane.last_success = now;
            lane.recovered = None;
        }
    }

    /// The fault is over; from now on everything has to recover.
    pub(super) fn heal(&mut self, now: Instant) {
        self.healed = Some(now);
    }

    /// When the last lane recovered; the names of the lanes that have not, otherwise.
    pub(super) fn recovered(&self) -> Result<Instant, String> {
        let waiting: Vec<&str> = self
            .lanes
            .iter()
            .filter(|lane| lane.recovered.is_none())
            .map(|lane| lane.name.as_str())
            .collect();
        let last = self.lanes.iter().filter_map(|lane| lane.recovered).max();
        last.filter(|_| waiting.is_empty())
            .ok_or_else(|| format!("no success yet: {}", waiting.join(", ")))
    }

    /// Ends the window.
    pub(super) fn close(&mut self, now: Instant) -> Window {
        let mut window = Window {
            examples: std::mem::take(&mut self.examples),
            ..Window::default()
        };
        for lane in &mut self.lanes {
            lane.note_gap(now);
            window.tallies[lane.kind as usize].add(&lane.tally);
        }
        self.open(now);
        window
    }
}

impl Lane {
    fn succeed(&mut self, now: Instant) {
        self.note_gap(now);
        self.last_success = now;
    }

    fn note_gap(&mut self, now: Instant) {
        let gap = millis(now.saturating_duration_since(self.last_success));
        self.tally.gap_ms = self.tally.gap_ms.max(gap);
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn counts_losses_gaps_and_relapses_of_a_window() {
        let start = Instant::now();
        let mut ledger = Ledger::new();
        let http = ledger.add_lane("get".into(), Kind::Http, start);
        ledger.open(start);

        ledger.handle_success(http, at(start, 1), at(start, 5));
        ledger.handle_loss(http, at(start, 6), at(start, 46), "refused");
        ledger.heal(at(start, 50));
        ledger.handle_success(http, at(start, 60), at(start, 65));
        ledger.handle_loss(http, at(start, 70), at(start, 71), "again");
        let window = ledger.close(at(start, 80));

        let expected = Tally {
            sent: 4,
            lost: 2,
            relapsed: 1,
            gap_ms: 60,
            told_ms: 40,
        };
        assert_eq!(window.tallies, [expected, Tally::default(), Tally::default()]);
        assert_eq!(window.examples.len(), 2);
    }

    #[test]
    fn recovers_when_every_lane_succeeds_with_what_was_begun_after_the_fault() {
        let start = Instant::now();
        let mut ledger = Ledger::new();
        let first = ledger.add_lane("first".into(), Kind::Http, start);
        let second = ledger.add_lane("second".into(), Kind::Stream, start);
        ledger.open(start);
        ledger.heal(at(start, 10));

        ledger.handle_success(first, at(start, 9), at(start, 11));
        ledger.handle_progress(second, at(start, 9), at(start, 11));
        assert!(ledger.recovered().unwrap_err().contains("second"));
        ledger.handle_progress(second, at(start, 11), at(start, 12));
        assert!(ledger.recovered().unwrap_err().contains("first"));
        ledger.handle_success(first, at(start, 13), at(start, 14));

        assert_eq!(ledger.recovered(), Ok(at(start, 14)));
    }

    #[test]
    fn windows_do_not_see_each_other() {
        let start = Instant::now();
        let mut ledger = Ledger::new();
        let lane = ledger.add_lane("get".into(), Kind::Http, start);
        ledger.handle_loss(lane, start, start, "before");

        ledger.close(at(start, 100));
        let window = ledger.close(at(start, 110));

        assert_eq!(window.tallies[0].lost, 0);
        assert_eq!(window.tallies[0].gap_ms, 10);
    }
}
