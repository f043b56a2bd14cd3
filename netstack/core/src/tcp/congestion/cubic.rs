//! CUBIC (RFC 9438), which most of the internet speaks.

use super::hystart::HyStart;
use super::{Congestion, Delivery, INITIAL_SEGMENTS, MAX_WINDOW};
use crate::tcp::pacer::Rate;
use crate::tcp::time::Time;

/// What is left of the window after a loss.
const DECREASE: f64 = 0.7;
/// Segments by which the window grows in the cube of a second.
const SCALE: f64 = 0.4;
/// Segments by which a Reno-like window of this decrease grows in a round trip.
const RENO_INCREASE: f64 = 3.0 * (1.0 - DECREASE) / (1.0 + DECREASE);
const MIN_SEGMENTS: u64 = 2;
/// The pace in percent of a window for each round trip: while it opens, and later.
const OPENING_PACE: u64 = 200;
const STEADY_PACE: u64 = 120;

#[derive(Debug)]
pub(in crate::tcp) struct Cubic {
    segment: u64,
    window: u64,
    threshold: u64,
    /// The window at the last loss.
    most: u64,
    growth: Option<Growth>,
    /// Watches the first opening of the window; those after a loss know where to end (RFC 9406, 4.3).
    hystart: Option<HyStart>,
    before: Option<Before>,
}

/// A time without loss.
#[derive(Debug, Clone, Copy)]
struct Growth {
    since: Time,
    /// The latest arrival.
    latest: Time,
    /// Window, in segments, at which it is flat.
    plateau: f64,
    /// Seconds until then.
    plateau_after: f64,
    /// Bytes that a Reno-like window would have.
    reno: f64,
    /// Bytes by which the window is to grow and that are less than one.
    credit: f64,
}

/// How things were before the last loss.
#[derive(Debug, Clone, Copy)]
struct Before {
    window: u64,
    threshold: u64,
    most: u64,
    hystart: Option<HyStart>,
}

impl Cubic {
    pub(in crate::tcp) fn new(segment: u64) -> Self {
        Self {
            segment: segment.max(1),
            window: INITIAL_SEGMENTS * segment.max(1),
            threshold: u64::MAX,
            most: 0,
            growth: None,
            hystart: Some(HyStart::default()),
            before: None,
        }
    }

    fn reduce(&mut self) {
        self.before = Some(Before {
            window: self.window,
            threshold: self.threshold,
            most: self.most,
            hystart: self.hystart.take(),
        });
        // Whoever did not reach the last window leaves room for others.
        self.most = if self.window < self.most {
            whole(real(self.window) * f64::midpoint(1.0, DECREASE))
        } else {
            self.window
        };
        self.threshold = whole(real(self.window) * DECREASE).max(MIN_SEGMENTS * self.segment);
        self.growth = None;
    }

    /// Grows by what the curve says for bytes that arrived.
    fn avoid(&mut self, delivery: &Delivery) {
        let (segment, window) = (real(self.segment), real(self.window));
        let plateau = real(self.most).max(window) / segment;
        let growth = self.growth.get_or_insert_with(|| Growth {
            since: delivery.now,
            latest: delivery.now,
            plateau,
            plateau_after: ((plateau - window / segment) / SCALE).cbrt(),
            reno: window,
            credit: 0.0,
        });
        growth.latest = delivery.now;
        let passed = seconds(delivery.now.since(growth.since));
        let ahead = seconds(delivery.smoothed.unwrap_or(0));
        let increase = if growth.reno >= real(self.most) {
            1.0
        } else {
            RENO_INCREASE
        };
        growth.reno += increase * segment * real(delivery.bytes) / window;
        let target = (growth.curve(passed + ahead) * segment).clamp(window, 1.5 * window);
        let by_curve = (target - window) / window * real(delivery.bytes);
        let by_reno = growth.reno - window;
        growth.credit += if growth.curve(passed) * segment < growth.reno {
            by_reno.max(0.0)
        } else {
            by_curve
        };
        let bytes = whole(growth.credit);
        growth.credit -= real(bytes);
        self.window += bytes;
    }
}

impl Congestion for Cubic {
    fn window(&self) -> u64 {
        self.window
    }

    fn pace(&self, smoothed: Option<u64>) -> Option<Rate> {
        let percent = if self.is_starting() {
            OPENING_PACE
        } else {
            STEADY_PACE
        };
        Some(Rate::new(self.window * percent / 100, smoothed?))
    }

    fn is_starting(&self) -> bool {
        self.window < self.threshold
    }

    fn handle_restart(&mut self, now: Time) {
        // Time in which nothing was under way is none on the curve (RFC 9438, 5.8).
        if let Some(growth) = &mut self.growth {
            growth.since = growth.since.after(now.since(growth.latest));
            growth.latest = now;
        }
    }

    fn handle_delivery(&mut self, delivery: &Delivery) {
        if self.is_starting()
            && let Some(hystart) = &mut self.hystart
        {
            hystart.note(delivery);
        }
        if !delivery.limited {
            // The curve is one over time in which the window was used.
            self.growth = None;
            return;
        }
        if self.is_starting() {
            self.window += delivery.bytes / self.hystart.map_or(1, |hystart| hystart.caution());
            if self.hystart.is_some_and(|hystart| hystart.is_over()) {
                self.threshold = self.window;
            }
            self.window = self.window.min(self.threshold.max(self.segment));
        } else {
            self.avoid(delivery);
        }
        self.window = self.window.min(MAX_WINDOW);
    }

    fn handle_loss(&mut self) {
        self.reduce();
        self.window = self.threshold;
    }

    fn handle_timeout(&mut self) {
        self.reduce();
        self.window = self.segment;
    }

    fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            self.window = self.window.max(before.window);
            self.threshold = before.threshold;
            self.most = before.most;
            self.hystart = before.hystart;
            self.growth = None;
        }
    }
}

impl Growth {
    /// The window, in segments, so many seconds after the loss.
    fn curve(&self, passed: f64) -> f64 {
        SCALE * (passed - self.plateau_after).powi(3) + self.plateau
    }
}

/// Windows and what is added to them are far below 2^32.
fn real(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX))
}

fn seconds(micros: u64) -> f64 {
    real(micros) / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers out of range become the nearest ones"
)]
fn whole(real: f64) -> u64 {
    real as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::time::{MILLISECOND, SECOND};

    const SEGMENT: u64 = 1000;
    const TRIP: u64 = 20 * MILLISECOND;

    /// A round trip in which the whole window arrives, one segment after the other.
    fn round(cubic: &mut Cubic, now: &mut Time, trip: u64, limited: bool) {
        let window = cubic.window();
        for at in 0..window / SEGMENT {
            cubic.handle_delivery(&Delivery {
                now: *now,
                bytes: SEGMENT,
                round_trip: Some(trip),
                smoothed: Some(trip),
                new_round: at == 0,
                limited,
            });
        }
        *now = now.after(trip);
    }

    #[test]
    fn begins_with_ten_segments_and_doubles() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());

        let mut windows = vec![cubic.window()];
        for _ in 0..4 {
            round(&mut cubic, &mut now, TRIP, true);
            windows.push(cubic.window());
        }

        assert_eq!(windows, [10_000, 20_000, 40_000, 80_000, 160_000]);
    }

    #[test]
    fn comes_back_to_the_last_window_along_the_curve() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
        while cubic.window() < 1_000_000 {
            round(&mut cubic, &mut now, TRIP, true);
        }
        let most = cubic.window();
        cubic.handle_loss();
        assert_eq!(cubic.window(), most * 7 / 10);

        // The cube root of 0.3 windows, in segments, over 0.4.
        let expected = (0.3 * real(most / SEGMENT) / SCALE).cbrt();
        let begun = now;
        while cubic.window() < most * 99 / 100 {
            round(&mut cubic, &mut now, TRIP, true);
        }
        let took = seconds(now.since(begun));

        assert!(
            took > expected * 0.5 && took < expected * 1.2,
            "{took} s, not {expected} s"
        );
    }

    #[test]
    fn a_small_window_grows_like_that_of_reno() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
        cubic.handle_loss();
        let begun = cubic.window();
        for _ in 0..20 {
            round(&mut cubic, &mut now, MILLISECOND, true);
        }

        let grown = (cubic.window() - begun) / SEGMENT;
        assert!((9..=20).contains(&grown), "by {grown} segments in 20 round trips");
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
        for _ in 0..100 {
            round(&mut cubic, &mut now, TRIP, false);
        }
        assert_eq!(cubic.window(), 10_000);

        cubic.handle_loss();
        now = now.after(100 * SECOND);
        round(&mut cubic, &mut now, TRIP, false);
        round(&mut cubic, &mut now, TRIP, true);
        assert!(cubic.window() < 9000, "the time without use does not count");
    }

    #[test]
    fn what_was_no_loss_is_forgotten() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
        round(&mut cubic, &mut now, TRIP, true);
        cubic.handle_timeout();
        assert_eq!(cubic.window(), SEGMENT);

        cubic.undo();

        assert_eq!(cubic.window(), 20_000);
        assert!(cubic.is_starting());
        cubic.undo();
        assert_eq!(cubic.window(), 20_000);
    }

    #[test]
    fn longer_round_trips_end_the_start() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
        let mut trip = TRIP;
        for _ in 0..20 {
            round(&mut cubic, &mut now, trip, true);
            trip += if cubic.window() > 100_000 {
                5 * MILLISECOND
            } else {
                0
            };
        }

        assert!(!cubic.is_starting());
        assert!(cubic.window() < 2_000_000, "{}", cubic.window());
    }

    #[test]
    fn the_window_opens_again_after_a_timeout_however_the_start_ended() {
        let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
        let mut trip = TRIP;
        while cubic.is_starting() {
            round(&mut cubic, &mut now, trip, true);
            trip += 5 * MILLISECOND;
        }
        let before = cubic.window();

        cubic.handle_timeout();
        let mut windows = vec![cubic.window()];
        while cubic.is_starting() {
            round(&mut cubic, &mut now, trip, true);
            windows.push(cubic.window());
        }

        assert_eq!(windows[..4], [1000, 2000, 4000, 8000]);
        assert!(cubic.window() >= before * 7 / 10, "{windows:?}");
    }

    #[test]
    fn time_in_which_nothing_is_under_way_does_not_count() {
        let windows = [0, 10 * SECOND].map(|pause| {
            let (mut cubic, mut now) = (Cubic::new(SEGMENT), Time::default());
            while cubic.window() < 1_000_000 {
                round(&mut cubic, &mut now, TRIP, true);
            }
            cubic.handle_loss();
            for _ in 0..10 {
                round(&mut cubic, &mut now, TRIP, true);
            }
            now = now.after(pause);
            cubic.handle_restart(now);
            for _ in 0..10 {
                round(&mut cubic, &mut now, TRIP, true);
            }
            cubic.window()
        });

        assert_eq!(windows[0], windows[1]);
    }
}
