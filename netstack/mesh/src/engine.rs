//! The one task that knows everything: it feeds the peers' machines and does what they want.
//!
//! It never waits for anybody but its inputs: words to the signal server and frames to the relay are queued
//! or dropped, so a stuck server cannot hold up the others.

mod direct;
mod peers;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshgate_netstack::{Datagram, Event, Netstack, PresharedKey};
use meshgate_proto::network_map::{self as wire, NetworkMap, RelayServers, Servers, SignalServer};
use meshgate_proto::relay::PeerHash;
use meshgate_proto::signal::{Connectivity, SignalBody, SignalMessage};
use meshgate_proto::{WgPrivateKey, WgPublicKey};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::direct::Direct;
use crate::MeshInfo;
use crate::board::Board;
use crate::directory::{Directory, PeerState, net_key, wire_key};
use crate::early::Early;
use crate::network_map::{Changes, MapPeer, MapState};
use crate::peer::{Ice, PeerConnection};
use crate::relay::{Outgoing, RelayEvent, Wakes, subscriptions};
use crate::sync::SyncEvent;

/// The engine sleeps at most this long.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// Everything the engine listens to.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) sync: mpsc::Receiver<SyncEvent>,
    pub(crate) signal: mpsc::Receiver<SignalMessage>,
    pub(crate) relay: mpsc::Receiver<RelayEvent>,
    /// Peers that somebody dials.
    pub(crate) dials: mpsc::Receiver<WgPublicKey>,
    pub(crate) netstack: broadcast::Receiver<Event>,
    /// Datagrams of the WireGuard socket that are not WireGuard's; without direct paths there are none.
    pub(crate) datagrams: Option<mpsc::Receiver<Datagram>>,
    pub(crate) stop: CancellationToken,
}

/// Everything the engine speaks to.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) netstack: Netstack,
    pub(crate) directory: Arc<Directory>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) board: Board,
    pub(crate) signal: mpsc::Sender<SignalMessage>,
    pub(crate) signal_server: watch::Sender<Option<SignalServer>>,
    pub(crate) relay_servers: watch::Sender<Option<RelayServers>>,
}

/// Who we are.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: WgPrivateKey,
    pub(crate) version: String,
    pub(crate) preshared_key: Option<PresharedKey>,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Engine {
    ours: WgPublicKey,
    identity: Identity,
    out: Outputs,
    map: MapState,
    peers: HashMap<WgPublicKey, Entry>,
    hashes: HashMap<PeerHash, WgPublicKey>,
    timers: BTreeSet<(Instant, WgPublicKey)>,
    relay: Option<RelayInfo>,
    subscribe: Vec<PeerHash>,
    early_signals: Early<WgPublicKey, SignalMessage>,
    early_datagrams: Early<PeerHash, Bytes>,
    addresses: Vec<IpAddr>,
    direct: Direct,
}

#[derive(Debug)]
struct Entry {
    connection: PeerConnection,
    hash: PeerHash,
    due: Option<Instant>,
    state: PeerState,
    peer: MapPeer,
}

/// The relay as OFFERs name it.
#[derive(Debug)]
struct RelayInfo {
    instance_url: String,
    ip: Vec<u8>,
}

impl Engine {
    pub(crate) fn new(identity: Identity, map: MapState, out: Outputs, with_direct: bool) -> Self {
        let ours = identity.key.public();
        Self {
            ours,
            direct: Direct::new(&identity.key, with_direct),
            identity,
            out,
            map,
            peers: HashMap::new(),
            hashes: HashMap::new(),
            timers: BTreeSet::new(),
            relay: None,
            subscribe: Vec::new(),
            early_signals: Early::default(),
            early_datagrams: Early::default(),
            addresses: Vec::new(),
        }
    }

    /// Runs until the client stops.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let wakes = Arc::clone(&self.out.wakes);
        loop {
            let timer = tokio::time::sleep_until(self.next_timer().into());
            tokio::select! {
                () = inputs.stop.cancelled() => return,
                Some(event) = inputs.sync.recv() => self.handle_sync(event),
                Some(message) = inputs.signal.recv() => self.handle_signal(message),
                Some(event) = inputs.relay.recv() => self.handle_relay(event),
                Some(key) = inputs.dials.recv() => self.with_peer(&key, PeerConnection::handle_wake),
                keys = wakes.next() => {
                    for key in keys {
                        self.with_peer(&key, PeerConnection::handle_wake);
                    }
                }
                event = inputs.netstack.recv() => match event {
                    Ok(event) => self.handle_netstack(event),
                    Err(broadcast::error::RecvError::Lagged(lost)) => {
                        tracing::warn!(mesh.lost = lost, "Missed news of the netstack");
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(datagram) = next_datagram(&mut inputs.datagrams) => self.handle_datagram(&datagram),
                () = timer => self.handle_timers(),
            }
            self.flush_subscriptions();
        }
    }

    fn next_timer(&self) -> Instant {
        let latest = Instant::now() + LONGEST_SLEEP;
        self.timers.first().map_or(latest, |(due, _)| *due)
    }

    fn handle_timers(&mut self) {
        let now = Instant::now();
        while let Some((due, key)) = self.timers.first().copied()
            && due <= now
        {
            self.with_peer(&key, |connection, now| {
                connection.handle_timeout(now, &mut rand::rng());
            });
        }
    }

    fn handle_sync(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::LoggedIn(response) => {
                self.use_servers(response.servers);
                self.use_address(&response.peer);
            }
            SyncEvent::StreamOpened => self.map.forget_serial(),
            SyncEvent::Update(update) => {
                if let Some(servers) = update.servers {
                    self.use_servers(servers);
                }
                if let Some(map) = update.map {
                    self.use_map(map);
                }
            }
        }
    }

    /// A part that is absent has not changed.
    fn use_servers(&mut self, servers: Servers) {
        if let Some(server) = servers.signal {
            self.out
                .signal_server
                .send_if_modified(|current| replace(current, server));
        }
        if let Some(relay) = servers.relay {
            self.out
                .relay_servers
                .send_if_modified(|current| replace(current, relay));
        }
    }

    fn use_address(&mut self, config: &wire::PeerConfig) {
        let v6 = config.address_v6.map(|v6| v6.address);
        let addresses: Vec<IpAddr> = std::iter::once(IpAddr::V4(config.address))
            .chain(v6.map(IpAddr::V6))
            .collect();
        if addresses != self.addresses {
            self.out.netstack.set_addresses(addresses.clone());
            self.addresses = addresses;
        }
        let info = MeshInfo {
            key: self.ours,
            address: config.address,
            prefix: config.prefix,
            address_v6: v6,
            fqdn: config.fqdn.clone(),
        };
        self.out.board.update(|status| status.info = Some(info));
    }

    fn use_map(&mut self, map: NetworkMap) {
        let config = map.peer.clone();
        let changes = match self.map.apply(map) {
            Ok(changes) => changes,
            Err(stale) => {
                tracing::debug!(error = %stale, "Left an old map alone");
                return;
            }
        };
        if let Some(config) = &config {
            self.use_address(config);
        }
        self.use_changes(changes);
    }

    fn use_changes(&mut self, changes: Changes) {
        for key in &changes.removals {
            self.remove_peer(key);
        }
        for peer in changes.upserts {
            self.upsert_peer(peer);
        }
        self.out.netstack.set_firewall(changes.firewall);
        for problem in &changes.problems {
            tracing::warn!(mesh.problem = problem, "Left a part of the map out");
        }
        let serial = self.map.serial();
        self.out.board.update(|status| {
            status.map_serial = serial;
            status.map_problems = changes.problems;
        });
    }

    fn handle_signal(&mut self, message: SignalMessage) {
        let from = message.from;
        if !self.peers.contains_key(&from) {
            if matches!(message.body, SignalBody::Offer(_)) {
                self.early_signals.keep(Instant::now(), from, message);
            }
            return;
        }
        match message.body {
            SignalBody::Offer(connectivity) => {
                let ice = self.ice_of(&from, &connectivity);
                self.with_peer(&from, |connection, now| connection.handle_offer(now, ice));
            }
            SignalBody::Answer(connectivity) => {
                let ice = self.ice_of(&from, &connectivity);
                self.with_peer(&from, |connection, now| connection.handle_answer(now, ice));
            }
            SignalBody::Candidate(line) => {
                if let Some(address) = self.direct.parse_candidate(&line, &self.addresses) {
                    self.with_peer(&from, |connection, now| connection.handle_candidate(now, address));
                }
            }
            SignalBody::GoIdle => self.with_peer(&from, PeerConnection::handle_go_idle),
            SignalBody::Mode | SignalBody::Heartbeat => {}
        }
    }

    /// Also notices a peer that cannot be met: it uses another relay, and we have only one.
    fn ice_of(&self, from: &WgPublicKey, theirs: &Connectivity) -> Ice {
        if let (Some(relay), Some(address)) = (&self.relay, &theirs.relay_address)
            && relay.instance_url != *address
        {
            tracing::warn!(peer.key = %from.short(), mesh.relay = %address, "Peer uses another relay");
        }
        if theirs.ice.is_some() {
            Ice::Offered
        } else {
            Ice::Absent
        }
    }

    fn handle_relay(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Up {
                instance_url,
                ip,
                heard,
            } => {
                self.direct.learn_own_address(&ip, self.out.netstack.udp_port());
                self.relay = Some(RelayInfo { instance_url, ip });
                self.with_all(PeerConnection::handle_relay_up);
                // Nobody waits any more when the client stops.
                let _ = heard.send(());
            }
            RelayEvent::Down => {
                self.relay = None;
                self.with_all(PeerConnection::handle_relay_down);
            }
            RelayEvent::Online(hashes) => self.with_hashes(&hashes, PeerConnection::handle_online),
            RelayEvent::Offline(hashes) => self.with_hashes(&hashes, PeerConnection::handle_offline),
            RelayEvent::Datagram { peer, hash, datagram } => {
                match peer.or_else(|| self.hashes.get(&hash).copied()) {
                    Some(key) => self.receive(key, datagram),
                    None => self.early_datagrams.keep(Instant::now(), hash, datagram),
                }
            }
        }
    }

    /// A datagram of a peer without an open path: it opens the path first, so that the answer can leave.
    fn receive(&mut self, key: WgPublicKey, datagram: Bytes) {
        self.with_peer(&key, PeerConnection::handle_datagram);
        self.out.netstack.receive(&net_key(&key), datagram);
    }

    fn handle_netstack(&mut self, event: Event) {
        match event {
            Event::HandshakeCompleted { peer } => {
                self.with_peer(&wire_key(&peer), PeerConnection::handle_handshake);
            }
            Event::PeerSilent { peer } => {
                tracing::info!(peer.key = %peer.short(), "Peer fell silent");
                self.with_peer(&wire_key(&peer), PeerConnection::handle_silent);
            }
            Event::PathWanted { peer } => self.with_peer(&wire_key(&peer), PeerConnection::handle_wake),
            Event::EndpointChanged { peer, endpoint } => self.follow(&wire_key(&peer), endpoint),
            Event::EndpointSeen { peer, endpoint } => {
                if self.direct.is_enabled() {
                    self.with_peer(&wire_key(&peer), |connection, now| {
                        connection.handle_candidate(now, endpoint);
                    });
                }
            }
        }
    }

    fn handle_datagram(&mut self, datagram: &Datagram) {
        let Some(heard) = self.direct.handle_datagram(datagram, &self.out.netstack) else {
            return;
        };
        match heard {
            direct::Heard::Asked { peer } => {
                let source = datagram.source;
                self.with_peer(&peer, |connection, now| connection.handle_candidate(now, source));
            }
            direct::Heard::Answered { peer, address } => {
                self.with_peer(&peer, |connection, now| {
                    connection.handle_probe_answer(now, address);
                });
            }
        }
    }

    fn flush_subscriptions(&mut self) {
        if self.subscribe.is_empty() {
            return;
        }
        for frame in subscriptions(&self.subscribe) {
            self.out.outgoing.control(frame);
        }
        self.subscribe.clear();
    }
}

fn replace<T: PartialEq>(current: &mut Option<T>, new: T) -> bool {
    if current.as_ref() == Some(&new) {
        return false;
    }
    *current = Some(new);
    true
}

/// Never ready without direct paths.
async fn next_datagram(datagrams: &mut Option<mpsc::Receiver<Datagram>>) -> Option<Datagram> {
    match datagrams {
        Some(datagrams) => datagrams.recv().await,
        None => std::future::pending().await,
    }
}
