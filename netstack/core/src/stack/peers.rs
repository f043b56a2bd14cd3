//! What happens to many connections at once: a peer comes, falls silent or goes, a rule or an address changes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::receive::tcp_flow;
use super::{Entry, Origin, Stack, Stage};
use crate::connection::ConnectionId;
use crate::device::peer::PeerId;
use crate::{Failure, Firewall, Silence};

/// A connection that did not move data for so long is probed more rarely.
const RECENT: Duration = Duration::from_mins(1);
/// Doubted connections that are probed between two ticks of the peers' timers.
const DOUBTED_AT_ONCE: usize = 64;
/// Quiet time after which even an idle connection is probed.
const PROBE_IDLE_AFTER: Duration = Duration::from_secs(15);

impl Stack {
    /// Gives every connection of the peer a turn: it can be sent to again.
    pub(crate) fn mark_peer(&mut self, peer: PeerId) {
        for id in self.of_peer(peer) {
            self.mark(id);
        }
    }

    /// The peer is gone.
    pub(crate) fn fail_peer(&mut self, peer: PeerId, failure: Failure) {
        for id in self.of_peer(peer) {
            self.fail(id, failure);
        }
    }

    /// Fails the connections whose other end is no longer routed to their peer.
    pub(crate) fn fail_unrouted(&mut self, route: impl Fn(IpAddr) -> Option<PeerId>) {
        let lost = |entry: &Entry| route(entry.tuple.remote.ip()) != Some(entry.peer);
        for id in self.select(lost) {
            self.fail(id, Failure::PeerOffline);
        }
    }

    /// The peer does not answer.
    pub(crate) fn silence_peer(&mut self, peer: PeerId, silence: Silence) {
        for id in self.of_peer(peer) {
            let dialing = self
                .connections
                .get(&id)
                .is_some_and(|entry| entry.stage == Stage::Dialing);
            if dialing || silence == Silence::FailStreams {
                self.fail(id, Failure::PeerOffline);
            }
        }
    }

    pub(crate) fn fail_all(&mut self, failure: Failure) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.fail(id, failure);
        }
    }

    /// Replaces our addresses; connections from one that is gone fail.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
        let gone = |entry: &Entry| !self.addresses.contains(&entry.tuple.local.ip());
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, entry)| gone(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.fail(id, Failure::Aborted);
        }
    }

    /// Replaces the inbound rules; connections that others opened and that are no longer allowed fail.
    pub(crate) fn set_firewall(&mut self, firewall: Firewall) {
        self.firewall = firewall;
        let denied = |entry: &Entry| {
            entry.origin == Origin::Theirs
                && !self.admits(tcp_flow(entry.tuple.remote.ip(), entry.tuple.local.port()))
        };
        let denied: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, entry)| denied(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in denied {
            self.fail(id, Failure::Aborted);
        }
    }

    /// The peer has new keys. It may have restarted and forgotten its connections, and while it answers on others,
    /// nobody would notice; so each is asked for a sign of life.
    pub(crate) fn doubt_peer(&mut self, now: Instant, peer: PeerId) {
        for id in self.by_peer.get(&peer).into_iter().flatten() {
            if let Some(entry) = self.connections.get_mut(id)
                && entry.stage == Stage::Established
                && entry.doubted.is_none()
            {
                entry.doubted = Some(now);
                self.doubted.push_back(*id);
            }
        }
    }

    /// Probes some of the doubted connections; those that moved data since then have proved themselves.
    pub(crate) fn probe_doubted(&mut self) {
        for _ in 0..DOUBTED_AT_ONCE.min(self.doubted.len()) {
            let Some(id) = self.doubted.pop_front() else {
                return;
            };
            let Some(entry) = self.connections.get_mut(&id) else {
                continue;
            };
            let since = entry.doubted.take();
            if since.is_some_and(|since| entry.last_data <= since) {
                entry.connection.lock().tcp.probe();
                self.mark(id);
            }
        }
    }

    /// Asks a quiet peer for a sign of life on a connection where somebody may be waiting.
    pub(crate) fn probe(&mut self, now: Instant, peer: PeerId, quiet: Duration) {
        let Some(ids) = self.by_peer.get(&peer) else {
            return;
        };
        let idle_too = quiet >= PROBE_IDLE_AFTER;
        let chosen = ids.iter().copied().find(|id| {
            self.connections.get(id).is_some_and(|entry| {
                let recent = now.saturating_duration_since(entry.last_data) < RECENT;
                // Whoever dialed asks, and may wait for long; whoever was dialed has always written last.
                let awaiting = entry.origin == Origin::Ours && entry.connection.is_awaiting();
                entry.stage == Stage::Established && (idle_too || recent || awaiting)
            })
        });
        let Some(entry) = chosen.and_then(|id| self.connections.get(&id)) else {
            return;
        };
        entry.connection.lock().tcp.probe();
        let id = entry.connection.id;
        self.mark(id);
    }

    fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, entry)| wanted(entry))
            .map(|(id, _)| *id)
            .collect()
    }

    fn of_peer(&self, peer: PeerId) -> Vec<ConnectionId> {
        self.by_peer
            .get(&peer)
            .map(|ids| ids.iter().copied().collect())
            .unwrap_or_default()
    }
}
