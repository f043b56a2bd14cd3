//! What happens when nothing comes: the last segment is sent again, everything counts as lost, a closed window is
//! asked after.

use super::Sender;
use super::repair::Repair;
use crate::tcp::rtt::backed_off;
use crate::tcp::time::{MILLISECOND, SECOND, Time};

/// What is not acknowledged for so long ends the connection.
const USER_TIMEOUT: u64 = 120 * SECOND;
/// Least wait before the last segment is sent again, and what it is beyond two round trips.
const MIN_TAIL_WAIT: u64 = 10 * MILLISECOND;
const TAIL_SLACK: u64 = 2 * MILLISECOND;
/// How long the other side may wait before it acknowledges a single segment.
const MAX_ACK_DELAY: u64 = 200 * MILLISECOND;

#[derive(Debug, Default)]
pub(super) struct Timers {
    alarm: Option<(Time, Alarm)>,
    /// When segments that seem late are lost.
    reordering: Option<Time>,
    /// When the closed window is asked after, and how often it was.
    closed_window: Option<(Time, u32)>,
    /// Since when the next acknowledgement is waited for.
    since: Time,
    /// Since when nothing is acknowledged although something waits for it.
    stalled: Option<Time>,
    /// The last segment is to be sent again.
    probes: bool,
    /// Something left or arrived since the alarm was set.
    touched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// The last segment may be lost (RFC 8985, 7).
    Tail,
    Timeout,
}

/// What timers want of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) enum Due {
    Nothing,
    /// A segment that the other side answers, whatever its window is.
    Probe,
    /// It is over.
    End,
}

impl Timers {
    /// Something is under way, and nothing was before.
    pub(super) fn begin(&mut self, now: Time) {
        self.since = now;
        self.stalled = Some(now);
    }

    /// The next acknowledgement is waited for from now.
    pub(super) fn restart(&mut self, now: Time) {
        self.since = now;
    }

    /// Something was acknowledged.
    pub(super) fn handle_progress(&mut self, now: Time) {
        self.since = now;
        self.stalled = Some(now);
    }

    /// The other side was heard.
    pub(super) fn handle_word(&mut self, now: Time) {
        if self.closed_window.is_some() {
            self.stalled = Some(now);
        }
    }

    /// Something left or arrived.
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    pub(super) fn set_reordering(&mut self, at: Option<Time>) {
        self.reordering = at;
    }

    pub(super) fn take_probe(&mut self) -> bool {
        std::mem::take(&mut self.probes)
    }
}

impl Sender {
    /// Does what is due.
    pub(in crate::tcp) fn handle_timers(&mut self, now: Time) -> Due {
        if self
            .timers
            .stalled
            .is_some_and(|since| now.since(since) >= USER_TIMEOUT)
        {
            return Due::End;
        }
        if self.timers.reordering.is_some_and(|at| at <= now) {
            self.timers.reordering = None;
            self.look_for_losses(now);
        }
        if let Some((at, alarm)) = self.timers.alarm
            && at <= now
        {
            self.timers.alarm = None;
            match alarm {
                Alarm::Tail => {
                    self.timers.probes = true;
                    self.timers.since = now;
                }
                Alarm::Timeout => self.time_out(now),
            }
        }
        if let Some((at, times)) = self.timers.closed_window
            && at <= now
        {
            let wait = backed_off(self.round_trip.timeout(), times + 1);
            self.timers.closed_window = Some((now.after(wait), times + 1));
            return Due::Probe;
        }
        Due::Nothing
    }

    /// Nothing could be sent for so long, which says nothing about what is under way.
    pub(in crate::tcp) fn forgive(&mut self, now: Time, held: u64) {
        let timers = &mut self.timers;
        timers.since = timers.since.after(held);
        timers.stalled = timers.stalled.map(|since| since.after(held));
        timers.alarm = timers.alarm.map(|(at, alarm)| (at.after(held), alarm));
        self.settle(now);
    }

    /// Winds the timers up, once everything that may leave has left.
    pub(in crate::tcp) fn settle(&mut self, now: Time) {
        let idle = self.board.is_empty();
        let is_closed = idle && self.end() > self.sent && self.peer.edge <= self.sent;
        if !is_closed {
            self.timers.closed_window = None;
        } else if self.timers.closed_window.is_none() {
            self.timers.closed_window = Some((now.after(self.round_trip.timeout()), 0));
            self.timers.stalled = Some(now);
        }
        if idle {
            self.timers.alarm = None;
            self.timers.reordering = None;
            if !is_closed {
                self.timers.stalled = None;
            }
            return;
        }
        let timeout = (self.timers.since.after(self.round_trip.timeout()), Alarm::Timeout);
        let tail = self.tail_wait().map(|wait| (now.after(wait), Alarm::Tail));
        let alarm = match tail {
            Some(tail) if tail.0 < timeout.0 => tail,
            _ => timeout,
        };
        // Only what leaves or arrives begins a wait anew, and not every look.
        if self.timers.alarm.is_none() || std::mem::take(&mut self.timers.touched) {
            self.timers.alarm = Some(alarm);
        }
    }

    /// When [`Sender::handle_timers`] or [`Sender::poll`] wants to run.
    pub(in crate::tcp) fn poll_at(&self) -> Option<Time> {
        let timers = &self.timers;
        let pace = self.waits_for_pace.then(|| self.pacer.permits_at()).flatten();
        [
            timers.alarm.map(|(at, _)| at),
            timers.reordering,
            timers.closed_window.map(|(at, _)| at),
            timers.stalled.map(|since| since.after(USER_TIMEOUT)),
            pace,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// How long to wait for the acknowledgement of the last segment before it is sent again, if that is of use.
    fn tail_wait(&self) -> Option<u64> {
        if !matches!(self.repair, Repair::None) || self.tail_probe.is_some() || self.board.is_doubtful() {
            return None;
        }
        let wait = (2 * self.round_trip.smoothed()? + TAIL_SLACK).max(MIN_TAIL_WAIT);
        let single = self.sent - self.acknowledged <= self.segment;
        Some(if single { wait + MAX_ACK_DELAY } else { wait })
    }

    fn time_out(&mut self, now: Time) {
        self.round_trip.back_off();
        self.timers.since = now;
        self.tail_probe = None;
        self.board.expire(now, self.rack.round_trip());
        let goes_on = matches!(self.repair, Repair::Timeout(until) if self.acknowledged < until);
        if !goes_on {
            self.control.handle_timeout();
        }
        self.repair = Repair::Timeout(self.sent);
        self.pacer.set(now, self.control.pace(self.round_trip.smoothed()));
    }
}
