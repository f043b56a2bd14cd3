//! The engine's half that deals with peers: their machines, timers and what the machines want done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshgate_netstack::{Path, PeerConfig, RelaySink};
use meshgate_proto::WgPublicKey;
use meshgate_proto::relay::{Frame, PeerHash};
use meshgate_proto::signal::{Connectivity, SignalBody, SignalMessage};

use super::{Engine, Entry};
use crate::directory::{PeerState, net_key};
use crate::network_map::MapPeer;
use crate::peer::{Output, PeerConnection, Reach, Role, Route};
use crate::relay::PeerTransport;

/// Pause between two empty packets that keep paths through firewalls open.
const KEEPALIVE: Duration = Duration::from_secs(25);

impl Engine {
    pub(super) fn upsert_peer(&mut self, peer: MapPeer) {
        let key = peer.key;
        let parked = self
            .peers
            .get(&key)
            .is_some_and(|entry| entry.connection.route() == Route::Parked);
        self.out
            .netstack
            .upsert_peer(self.net_peer(&peer, (!parked).then_some(KEEPALIVE)));
        self.out.directory.upsert(peer.clone());
        if let Some(entry) = self.peers.get_mut(&key) {
            entry.peer = peer;
            return;
        }
        let hash = PeerHash::of(&key);
        let role = if self.ours.controls(&key) {
            Role::Controller
        } else {
            Role::Follower
        };
        self.hashes.insert(hash, key);
        self.direct.add(&key, &hash);
        self.peers.insert(
            key,
            Entry {
                connection: PeerConnection::new(role),
                hash,
                due: None,
                state: PeerState::default(),
                peer,
            },
        );
        if self.relay.is_some() {
            self.with_peer(&key, PeerConnection::handle_relay_up);
        }
        self.replay_early(&key, &hash);
    }

    fn replay_early(&mut self, key: &WgPublicKey, hash: &PeerHash) {
        let now = Instant::now();
        if let Some(message) = self.early_signals.take(now, key) {
            self.handle_signal(message);
        }
        if let Some(datagram) = self.early_datagrams.take(now, hash) {
            self.receive(*key, datagram);
        }
    }

    pub(super) fn remove_peer(&mut self, key: &WgPublicKey) {
        let Some(entry) = self.peers.remove(key) else {
            return;
        };
        if let Some(due) = entry.due {
            self.timers.remove(&(due, *key));
        }
        self.hashes.remove(&entry.hash);
        self.direct.remove(&entry.hash);
        self.out.directory.remove(key);
        self.out.netstack.remove_peer(&net_key(key));
        let frame = Frame::UnsubscribePeerState(vec![entry.hash]);
        self.out.outgoing.control(frame.encode());
    }

    fn net_peer(&self, peer: &MapPeer, keepalive: Option<Duration>) -> PeerConfig {
        PeerConfig {
            public_key: net_key(&peer.key),
            preshared_key: self.identity.preshared_key.clone(),
            allowed_ips: peer.allowed_ips.clone(),
            keepalive,
        }
    }

    pub(super) fn with_all(&mut self, change: impl Fn(&mut PeerConnection, Instant)) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            self.with_peer(&key, &change);
        }
    }

    pub(super) fn with_hashes(&mut self, hashes: &[PeerHash], change: impl Fn(&mut PeerConnection, Instant)) {
        for hash in hashes {
            if let Some(key) = self.hashes.get(hash).copied() {
                self.with_peer(&key, &change);
            }
        }
    }

    /// One change of one machine: what it wants is done, its timer is armed, its state is shown.
    pub(super) fn with_peer(&mut self, key: &WgPublicKey, change: impl FnOnce(&mut PeerConnection, Instant)) {
        let Some(entry) = self.peers.get_mut(key) else {
            return;
        };
        change(&mut entry.connection, Instant::now());
        while let Some(output) = self
            .peers
            .get_mut(key)
            .and_then(|entry| entry.connection.poll_output())
        {
            self.perform(key, output);
        }
        let Some(entry) = self.peers.get_mut(key) else {
            return;
        };
        let due = entry.connection.poll_timeout();
        if due != entry.due {
            if let Some(old) = entry.due {
                self.timers.remove(&(old, *key));
            }
            if let Some(new) = due {
                self.timers.insert((new, *key));
            }
            entry.due = due;
        }
        let state = PeerState {
            open: !matches!(entry.connection.route(), Route::None | Route::Parked),
            connected: entry.connection.is_connected(),
        };
        if state != entry.state {
            entry.state = state;
            self.out.directory.set_state(&entry.hash, state);
        }
    }

    fn perform(&mut self, key: &WgPublicKey, output: Output) {
        tracing::trace!(peer.key = %key.short(), output = ?output, "Peer machine");
        match output {
            Output::Subscribe => self.subscribe.push(PeerHash::of(key)),
            Output::Offer => self.say(key, SignalBody::Offer(self.connectivity())),
            Output::Answer => self.say(key, SignalBody::Answer(self.connectivity())),
            Output::Candidates => {
                if let Some(line) = self.direct.own_candidate() {
                    self.say(key, SignalBody::Candidate(line));
                }
            }
            Output::Probe(address) => self.direct.probe(key, address, &self.out.netstack),
            Output::Route(route) => self.set_route(key, route),
            Output::Initiate => self.out.netstack.initiate(&net_key(key)),
            Output::Reach(reach) => {
                self.out
                    .netstack
                    .set_peer_online(&net_key(key), reach == Reach::Possible);
            }
        }
    }

    /// The netstack answers a peer at another address than we told it. Without direct paths it is told again.
    pub(super) fn follow(&mut self, key: &WgPublicKey, endpoint: SocketAddr) {
        if self.direct.is_enabled() {
            self.with_peer(key, |connection, now| {
                connection.handle_endpoint_changed(now, endpoint);
            });
        } else if let Some(entry) = self.peers.get(key) {
            self.set_route(key, entry.connection.route());
        }
    }

    fn set_route(&mut self, key: &WgPublicKey, route: Route) {
        tracing::debug!(peer.key = %key.short(), mesh.route = ?route, "Path of a peer changed");
        let outgoing = Arc::clone(&self.out.outgoing);
        let path = match route {
            Route::None => Path::None,
            Route::Direct(address) => Path::Direct(address),
            Route::Relay => {
                let transport = PeerTransport::open(PeerHash::of(key), outgoing);
                Path::Relay(RelaySink::new(Arc::new(transport)))
            }
            Route::Parked => {
                let transport = PeerTransport::parked(*key, outgoing, Arc::clone(&self.out.wakes));
                Path::Relay(RelaySink::new(Arc::new(transport)))
            }
        };
        self.out.netstack.set_path(&net_key(key), path);
        let Some(entry) = self.peers.get(key) else { return };
        let keepalive = (route != Route::Parked).then_some(KEEPALIVE);
        let peer = self.net_peer(&entry.peer, keepalive);
        self.out.netstack.upsert_peer(peer);
    }

    /// Words that find the queue full are dropped: guards repeat them.
    fn say(&self, to: &WgPublicKey, body: SignalBody) {
        let message = SignalMessage {
            from: self.ours,
            to: *to,
            body,
        };
        if self.out.signal.try_send(message).is_err() {
            tracing::debug!(peer.key = %to.short(), "Dropped a signal message: the queue is full");
        }
    }

    fn connectivity(&self) -> Connectivity {
        Connectivity {
            ice: None,
            wg_listen_port: self.out.netstack.udp_port().unwrap_or(0),
            version: self.identity.version.clone(),
            relay_address: self.relay.as_ref().map(|relay| relay.instance_url.clone()),
            relay_ip: self
                .relay
                .as_ref()
                .map(|relay| relay.ip.clone())
                .filter(|ip| !ip.is_empty()),
            session_id: None,
            rosenpass_key: Vec::new(),
            rosenpass_address: String::new(),
        }
    }
}
