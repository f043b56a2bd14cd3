//! Is the peer still there?
//!
//! WireGuard itself notices a vanished peer after 15 s at best. Here a packet that demands an answer (TCP SYN, FIN or
//! data, a keepalive probe included) starts a clock which any authenticated packet stops: after [`INITIATE_AFTER`] a
//! handshake is forced, which a restarted peer answers, and after [`SILENT_AFTER`] the peer is declared silent. A peer
//! that dies while nothing is under way is found by a probe after [`PROBE_AFTER`], so that 5 s pass at the most.

use std::time::{Duration, Instant};

/// Quiet time after which an open connection is probed.
pub(crate) const PROBE_AFTER: Duration = Duration::from_millis(1250);
/// Unanswered time after which a handshake is forced.
const INITIATE_AFTER: Duration = Duration::from_millis(750);
/// Pause between two forced handshakes.
const INITIATE_AGAIN: Duration = Duration::from_millis(1250);
/// Unanswered time after which the peer counts as silent.
const SILENT_AFTER: Duration = Duration::from_millis(3250);
/// A forced handshake gets at least this long.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(750);

/// The clocks of one peer.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    last_received: Option<Instant>,
    unanswered_since: Option<Instant>,
    last_initiation: Option<Instant>,
    silent: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send a handshake initiation.
    Initiate,
    /// Tell that the peer fell silent.
    Silent,
}

impl Liveness {
    pub(crate) fn last_received(&self) -> Option<Instant> {
        self.last_received
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.unanswered_since.is_some()
    }

    /// How long nothing authenticated came; `None` before the first packet.
    pub(crate) fn quiet_for(&self, now: Instant) -> Option<Duration> {
        self.last_received.map(|last| now.saturating_duration_since(last))
    }

    /// An authenticated packet came.
    pub(crate) fn on_received(&mut self, now: Instant) {
        self.last_received = Some(now);
        self.unanswered_since = None;
        self.silent = false;
    }

    /// A packet left that the peer must answer.
    pub(crate) fn on_demand(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
    }

    /// A handshake initiation left.
    pub(crate) fn on_initiation(&mut self, now: Instant) {
        self.last_initiation = Some(now);
    }

    /// What is unanswered counts from now.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.unanswered_since = self.unanswered_since.map(|_| now);
    }

    /// The whole program stood still for `gap`: the peer had no chance to be heard.
    pub(crate) fn forgive(&mut self, gap: Duration) {
        for clock in [&mut self.unanswered_since, &mut self.last_received] {
            *clock = clock.map(|since| since + gap);
        }
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Option<Due> {
        let since = self.unanswered_since?;
        let waited = now.saturating_duration_since(since);
        let asked = self.last_initiation.filter(|at| *at >= since);
        let grace = asked.is_some_and(|at| now.saturating_duration_since(at) >= HANDSHAKE_GRACE);
        if waited >= SILENT_AFTER && grace {
            self.silent = true;
            self.unanswered_since = None;
            return Some(Due::Silent);
        }

        let patience = if self.silent {
            Duration::ZERO
        } else {
            INITIATE_AFTER
        };
        let rested = self
            .last_initiation
            .is_none_or(|at| now.saturating_duration_since(at) >= INITIATE_AGAIN);
        (waited >= patience && rested).then_some(Due::Initiate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declares_silence_after_two_unanswered_handshakes() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.on_received(start);
        liveness.on_demand(start);

        let due = run(&mut liveness, start, 20);

        let initiations = due.iter().filter(|(_, due)| *due == Due::Initiate).count();
        assert_eq!(initiations, 2);
        assert_eq!(
            due.last().map(|(at, due)| (*at, *due)),
            Some((SILENT_AFTER, Due::Silent))
        );
    }

    #[test]
    fn an_answer_stops_the_clock() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.on_demand(start);
        liveness.on_received(start + Duration::from_secs(1));

        assert_eq!(run(&mut liveness, start, 40), []);
    }

    #[test]
    fn a_silent_peer_is_asked_at_once() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.on_demand(start);
        run(&mut liveness, start, 20);
        let later = start + Duration::from_mins(1);

        liveness.on_demand(later);

        assert_eq!(liveness.poll(later), Some(Due::Initiate));
    }

    #[test]
    fn a_stall_of_ours_is_not_the_peers_silence() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.on_demand(start);

        liveness.forgive(Duration::from_secs(10));

        assert_eq!(liveness.poll(start + Duration::from_secs(10)), None);
    }

    fn run(liveness: &mut Liveness, start: Instant, ticks: u32) -> Vec<(Duration, Due)> {
        let mut seen = Vec::new();
        for tick in 0..ticks {
            let after = Duration::from_millis(250) * tick;
            let Some(due) = liveness.poll(start + after) else {
                continue;
            };
            if due == Due::Initiate {
                liveness.on_initiation(start + after);
            }
            seen.push((after, due));
        }
        seen
    }
}
