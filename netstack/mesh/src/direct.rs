//! The search for a direct path to one peer of our own kind. Pure.
//!
//! The peer names its socket's addresses; each gets a few sealed probes, and the first that answers is
//! chosen. The chosen one is probed for as long as it is used: when answers stay out, it is dropped and the
//! relay takes over again. Choosing never touches WireGuard's sessions, only where its datagrams go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Addresses of one peer that are tried at the same time.
const MAX_CANDIDATES: usize = 8;
/// Probes that an address gets before it is given up.
const MAX_PROBES: u32 = 5;
/// First pause between two probes of a candidate; doubles.
const PROBE_PAUSE: Duration = Duration::from_millis(150);
/// Pause between two probes of the chosen address.
const CHECK_PAUSE: Duration = Duration::from_millis(700);
/// Quiet time after which the chosen address is dropped.
const LOST_AFTER: Duration = Duration::from_millis(2100);
/// An address that packets come from, but that answers none, is left alone for so long.
const UNFIT_FOR: Duration = Duration::from_mins(1);
/// Quiet time allowed when there is reason to doubt.
const DOUBT: Duration = Duration::from_millis(500);

/// The search for, and the watch over, a direct path.
#[derive(Debug, Default)]
pub(crate) struct DirectPath {
    candidates: Vec<Candidate>,
    chosen: Option<Chosen>,
    /// An address from which packets come, but to which none lead, and until when it is not tried again.
    unfit: Option<(SocketAddr, Instant)>,
}

/// What came of [`DirectPath::adopt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// It is the path.
    Taken,
    /// Everything stays as it is.
    Refused,
}

#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    probes: u32,
    due: Instant,
}

#[derive(Debug)]
struct Chosen {
    address: SocketAddr,
    due: Instant,
    lost_at: Instant,
    /// A probe was answered.
    proven: bool,
}

impl DirectPath {
    /// The address in use.
    pub(crate) fn chosen(&self) -> Option<SocketAddr> {
        self.chosen.as_ref().map(|chosen| chosen.address)
    }

    /// The peer says that it can be reached here.
    pub(crate) fn handle_candidate(&mut self, now: Instant, address: SocketAddr) {
        let known = self
            .candidates
            .iter()
            .any(|candidate| candidate.address == address);
        if known || self.chosen() == Some(address) || self.candidates.len() >= MAX_CANDIDATES {
            return;
        }
        self.candidates.push(Candidate {
            address,
            probes: 0,
            due: now,
        });
    }

    /// The peer answered a probe that went to this address.
    pub(crate) fn handle_answer(&mut self, now: Instant, address: SocketAddr) {
        match &mut self.chosen {
            Some(chosen) if chosen.address == address => {
                chosen.lost_at = now + LOST_AFTER;
                chosen.proven = true;
            }
            None if self
                .candidates
                .iter()
                .any(|candidate| candidate.address == address) =>
            {
                self.candidates.clear();
                self.chosen = Some(Chosen {
                    address,
                    due: now + CHECK_PAUSE,
                    lost_at: now + LOST_AFTER,
                    proven: true,
                });
            }
            Some(_) | None => {}
        }
    }

    /// Packets that only the peer can make come from here, and the netstack answers there. This becomes the path, which
    /// has to prove itself like any other, unless it failed to do so a while ago.
    pub(crate) fn adopt(&mut self, now: Instant, address: SocketAddr) -> Adoption {
        if self.chosen() == Some(address) {
            return Adoption::Taken;
        }
        let failed = |(unfit, until): (SocketAddr, Instant)| unfit == address && now < until;
        if self.unfit.is_some_and(failed) {
            return Adoption::Refused;
        }
        self.candidates.clear();
        self.chosen = Some(Chosen {
            address,
            due: now,
            lost_at: now + LOST_AFTER,
            proven: false,
        });
        Adoption::Taken
    }

    /// Somebody says that the peer is gone: the path has to prove itself soon.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if let Some(chosen) = &mut self.chosen {
            chosen.due = now;
            chosen.lost_at = chosen.lost_at.min(now + DOUBT);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.candidates.clear();
        self.chosen = None;
    }

    /// When [`DirectPath::poll_probe`] has something to say or the path is lost.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let searching = self.candidates.iter().map(|candidate| candidate.due).min();
        let watching = self.chosen.as_ref().map(|chosen| chosen.due.min(chosen.lost_at));
        searching.into_iter().chain(watching).min()
    }

    /// Addresses that are kept.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.candidates.len() + usize::from(self.chosen.is_some())
    }

    /// Drops a path that stayed quiet.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(lost) = self.chosen.take_if(|chosen| chosen.lost_at <= now)
            && !lost.proven
        {
            self.unfit = Some((lost.address, now + UNFIT_FOR));
        }
        self.candidates
            .retain(|candidate| candidate.probes < MAX_PROBES || candidate.due > now);
    }

    /// The next address to probe now.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<SocketAddr> {
        if let Some(chosen) = self.chosen.as_mut().filter(|chosen| chosen.due <= now) {
            chosen.due = now + CHECK_PAUSE;
            return Some(chosen.address);
        }
        let candidate = self
            .candidates
            .iter_mut()
            .find(|candidate| candidate.due <= now && candidate.probes < MAX_PROBES)?;
        candidate.due = now + PROBE_PAUSE * (1 << candidate.probes);
        candidate.probes += 1;
        Some(candidate.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_the_address_that_answers_and_drops_it_when_it_stops() {
        let start = Instant::now();
        let mut direct = DirectPath::default();
        direct.handle_candidate(start, address(1));
        direct.handle_candidate(start, address(2));
        assert_eq!(direct.poll_probe(start), Some(address(1)));
        assert_eq!(direct.poll_probe(start), Some(address(2)));
        assert_eq!(direct.poll_probe(start), None);

        direct.handle_answer(start, address(2));
        assert_eq!(direct.chosen(), Some(address(2)));

        direct.handle_timeout(start + Duration::from_millis(2099));
        assert_eq!(direct.chosen(), Some(address(2)));
        direct.handle_timeout(start + LOST_AFTER);
        assert_eq!(direct.chosen(), None);
    }

    #[test]
    fn answers_from_addresses_that_were_never_named_choose_nothing() {
        let start = Instant::now();
        let mut direct = DirectPath::default();
        direct.handle_candidate(start, address(1));

        direct.handle_answer(start, address(9));

        assert_eq!(direct.chosen(), None);
    }

    #[test]
    fn gives_an_address_up_after_a_few_probes() {
        let mut now = Instant::now();
        let mut direct = DirectPath::default();
        direct.handle_candidate(now, address(1));
        let mut probes = 0;

        while let Some(due) = direct.deadline() {
            now = due;
            direct.handle_timeout(now);
            probes += u32::from(direct.poll_probe(now).is_some());
        }

        assert_eq!(probes, MAX_PROBES);
    }

    #[test]
    fn a_doubted_path_has_half_a_second() {
        let start = Instant::now();
        let mut direct = DirectPath::default();
        direct.handle_candidate(start, address(1));
        direct.handle_answer(start, address(1));

        direct.doubt(start);

        assert_eq!(direct.poll_probe(start), Some(address(1)));
        direct.handle_timeout(start + DOUBT);
        assert_eq!(direct.chosen(), None);
    }

    #[test]
    fn follows_the_peer_at_once_but_not_twice_to_where_nothing_answers() {
        let start = Instant::now();
        let mut direct = DirectPath::default();

        assert_eq!(direct.adopt(start, address(3)), Adoption::Taken);
        assert_eq!(direct.poll_probe(start), Some(address(3)));
        direct.handle_timeout(start + LOST_AFTER);

        assert_eq!(direct.chosen(), None);
        assert_eq!(direct.adopt(start + LOST_AFTER, address(3)), Adoption::Refused);
        assert_eq!(direct.adopt(start + LOST_AFTER, address(4)), Adoption::Taken);
        let later = start + LOST_AFTER + UNFIT_FOR;
        assert_eq!(direct.adopt(later, address(3)), Adoption::Taken);
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}
