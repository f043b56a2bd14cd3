//! What the latest arrivals prove of the rest (RFC 8985).

use super::scoreboard::Run;
use super::time::Time;

/// Quarters of a round trip that late segments are waited for at the most.
const MOST_PATIENCE: u64 = 16;
/// Recoveries after which a longer patience is forgotten.
const PATIENT_RECOVERIES: u32 = 16;

/// The newest of what arrived, and how orderly the path is.
#[derive(Debug, Default)]
pub(super) struct Rack {
    sent_at: Time,
    end: u64,
    round_trip: u64,
    /// The end of everything that arrived.
    furthest: u64,
    reordered: bool,
    /// Quarters of a round trip that late segments are waited for.
    quarters: u64,
    recoveries: u32,
}

impl Rack {
    /// Bytes arrived. What left twice and arrived sooner than any answer can, left the first time.
    pub(super) fn note(&mut self, run: &Run, now: Time, least: Option<u64>) {
        if !run.resent && run.end < self.furthest {
            self.reordered = true;
        }
        self.furthest = self.furthest.max(run.end);
        let took = now.since(run.sent_at);
        if run.resent && took < least.unwrap_or(0) {
            return;
        }
        if (run.sent_at, run.end) > (self.sent_at, self.end) {
            (self.sent_at, self.end) = (run.sent_at, run.end);
            self.round_trip = took;
        }
    }

    /// The round trip of the newest arrival.
    pub(super) fn round_trip(&self) -> u64 {
        self.round_trip
    }

    /// Whether something that left later than these bytes arrived.
    pub(super) fn proves(&self, run: &Run) -> bool {
        (self.sent_at, self.end) > (run.sent_at, run.end)
    }

    /// How long late segments are waited for. On a path that never changed their order, three segments or a recovery
    /// are proof enough.
    pub(super) fn patience(&self, least: Option<u64>, smoothed: Option<u64>, proven: bool) -> u64 {
        if !self.reordered && proven {
            return 0;
        }
        let quarters = self.quarters.max(1);
        (quarters * least.unwrap_or(0) / 4).min(smoothed.unwrap_or(0))
    }

    /// The other side received something twice: what counted as lost was only late.
    pub(super) fn handle_duplicate(&mut self) {
        self.reordered = true;
        self.quarters = (self.quarters.max(1) + 1).min(MOST_PATIENCE);
        self.recoveries = PATIENT_RECOVERIES;
    }

    /// A recovery is over.
    pub(super) fn handle_recovered(&mut self) {
        self.recoveries = self.recoveries.saturating_sub(1);
        if self.recoveries == 0 {
            self.quarters = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scoreboard::Fate;
    use super::*;

    fn run(start: u64, sent_at: u64, resent: bool) -> Run {
        Run {
            start,
            end: start + 10,
            sent_at: Time::default().after(sent_at),
            fate: Fate::Flying,
            resent,
        }
    }

    #[test]
    fn an_orderly_path_needs_no_patience_once_there_is_proof() {
        let mut rack = Rack::default();
        let now = Time::default().after(1000);
        rack.note(&run(0, 100, false), now, Some(400));
        rack.note(&run(10, 100, false), now, Some(400));

        assert_eq!(rack.patience(Some(400), Some(500), true), 0);
        assert_eq!(rack.patience(Some(400), Some(500), false), 100);
    }

    #[test]
    fn a_path_that_changes_the_order_gets_patience_and_more_with_each_mistake() {
        let mut rack = Rack::default();
        let now = Time::default().after(1000);
        rack.note(&run(50, 100, false), now, Some(400));
        rack.note(&run(0, 100, false), now, Some(400));
        assert_eq!(rack.patience(Some(400), Some(5000), true), 100);

        rack.handle_duplicate();
        assert_eq!(rack.patience(Some(400), Some(5000), true), 200);
        for _ in 0..100 {
            rack.handle_duplicate();
        }
        assert_eq!(rack.patience(Some(400), Some(5000), true), 1600);
        assert_eq!(
            rack.patience(Some(400), Some(500), true),
            500,
            "a round trip at most"
        );

        for _ in 0..PATIENT_RECOVERIES {
            rack.handle_recovered();
        }
        assert_eq!(rack.patience(Some(400), Some(5000), true), 100);
    }

    #[test]
    fn an_answer_that_is_too_quick_was_one_to_the_first_copy() {
        let mut rack = Rack::default();
        let now = Time::default().after(1000);

        rack.note(&run(0, 900, true), now, Some(400));
        assert_eq!(rack.round_trip(), 0);
        rack.note(&run(0, 500, true), now, Some(400));
        assert_eq!(rack.round_trip(), 500);
    }
}
