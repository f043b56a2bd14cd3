//! The task of one account: follows its changes, computes maps, hands them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use meshgate_proto::{AccountId, PeerId, ServiceId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::access::service_access;
use super::load::{load_account, load_groups, load_policies, network, peer_model, settings};
use super::stream::{MapSink, MapStream, PeerUpdate, map_stream};
use super::{AttachError, Command};
use crate::actor::Scope;
use crate::changes::Change;
use crate::grpc::management_service::WireMap;
use crate::network_map::{AccountModel, PeerModel, Touched, forwarder_port, network_map, removed_map};
use crate::state::State;
use crate::store::StoreError;

/// Shortest time between two rounds of maps.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Wait before the store is asked again after a fault.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often a task looks whether news was lost.
const LAG_CHECK: Duration = Duration::from_secs(1);
/// How long an account nobody syncs with stays in memory.
const IDLE: Duration = Duration::from_mins(5);

/// Whose maps have to be computed again.
#[derive(Debug)]
enum Dirty {
    Peers(BTreeSet<PeerId>),
    All,
}

/// Whether whoever made the changes has counted them in the account's serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serial {
    Stored,
    ToBeCounted,
}

struct Attached {
    number: u64,
    sink: MapSink,
    /// Of the map that was sent last, without its serial.
    fingerprint: u64,
}

pub(super) struct Publisher {
    state: Arc<State>,
    scope: Scope,
    inbox: mpsc::Receiver<Command>,
    lagging: Arc<AtomicBool>,
    model: Option<AccountModel>,
    attached: BTreeMap<PeerId, Attached>,
    next_number: u64,
    detached: FuturesUnordered<BoxFuture<'static, (PeerId, u64)>>,
    dirty: Dirty,
    serial: Serial,
    not_before: Instant,
}

impl Publisher {
    pub(super) fn new(
        state: Arc<State>,
        account: AccountId,
        inbox: mpsc::Receiver<Command>,
        lagging: Arc<AtomicBool>,
    ) -> Self {
        Self {
            state,
            scope: Scope::authenticated(account),
            inbox,
            lagging,
            model: None,
            attached: BTreeMap::new(),
            next_number: 0,
            detached: FuturesUnordered::new(),
            dirty: Dirty::Peers(BTreeSet::new()),
            serial: Serial::Stored,
            not_before: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut idle_since = Instant::now();
        let mut lag_check = tokio::time::interval(LAG_CHECK);
        loop {
            let due = self.is_dirty();
            tokio::select! {
                biased;
                Some((peer, number)) = self.detached.next() => self.detach(&peer, number),
                () = sleep_until(self.not_before), if due => self.publish().await,
                command = self.inbox.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => return,
                },
                _ = lag_check.tick() => {
                    if self.lagging.swap(false, Ordering::AcqRel) {
                        self.reload().await;
                    }
                    if !self.attached.is_empty() {
                        idle_since = Instant::now();
                    } else if idle_since.elapsed() > IDLE {
                        self.inbox.close();
                    }
                }
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Attach { peer, reply } => {
                // A peer that has given up waiting drops the answer, and with it detaches.
                let _ = reply.send(self.attach(peer).await);
            }
            Command::Changed(change) => {
                if self.model.is_some()
                    && let Err(error) = self.apply(change).await
                {
                    warn!(%error, "Change could not be read for network maps");
                    self.lagging.store(true, Ordering::Release);
                }
            }
        }
    }

    async fn attach(&mut self, peer: PeerId) -> Result<MapStream, AttachError> {
        if self.model.is_none() {
            let domain = &self.state.config.dns_domain;
            self.model = load_account(&self.state.store, &self.scope, domain).await?;
        } else {
            self.refresh_peer(&peer).await?;
        }
        let model = self.model.as_mut().ok_or(AttachError::Unknown)?;
        let is_proxy = model
            .peers
            .get(&peer)
            .ok_or(AttachError::Unknown)?
            .proxy_cluster
            .is_some();
        if is_proxy && model.connected_proxies.insert(peer.clone()) {
            self.proxy_presence_changed(&peer);
        }
        let model = self.model.as_ref().ok_or(AttachError::Unknown)?;
        let map = network_map(model, &peer).ok_or(AttachError::Unknown)?;
        let serial = model.network.serial;
        let wire = WireMap::new(map);
        let (sink, stream) = map_stream();
        self.next_number += 1;
        let (number, name, gone) = (self.next_number, peer.clone(), sink.detached());
        self.detached.push(Box::pin(async move {
            gone.cancelled().await;
            (name, number)
        }));
        let attached = Attached {
            number,
            fingerprint: wire.fingerprint(),
            sink,
        };
        attached.sink.put(PeerUpdate::Map(wire.encode(serial)));
        if let Some(older) = self.attached.insert(peer, attached) {
            older.sink.put(PeerUpdate::Superseded);
        }
        Ok(stream)
    }

    fn detach(&mut self, peer: &PeerId, number: u64) {
        if self
            .attached
            .get(peer)
            .is_none_or(|attached| attached.number != number)
        {
            return;
        }
        self.attached.remove(peer);
        let gone = self
            .model
            .as_mut()
            .is_some_and(|model| model.connected_proxies.remove(peer));
        if gone {
            self.proxy_presence_changed(peer);
        }
    }

    async fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        if !matches!(change, Change::Peer { .. }) {
            self.serial = Serial::ToBeCounted;
        }
        match change {
            Change::Service { service, .. } | Change::ServiceRemoved { service, .. } => {
                self.refresh_service(&service).await?;
            }
            Change::Peer { peer, .. } => self.refresh_peer(&peer).await?,
            Change::PeerRemoved { peer, .. } => self.remove_peer(&peer),
            Change::Account { .. } => self.refresh_account().await?,
            Change::Group { .. } => {
                if let Some(model) = &mut self.model {
                    model.groups = load_groups(&self.state.store, &self.scope, model).await?;
                    self.dirty = Dirty::All;
                }
            }
            Change::Policy { .. } => {
                if let Some(model) = &mut self.model {
                    model.policies = load_policies(&self.state.store, &self.scope).await?;
                    self.dirty = Dirty::All;
                }
            }
            Change::ProxyTokenRevoked { .. } | Change::ProxiesChanged { .. } => {}
        }
        Ok(())
    }

    async fn refresh_service(&mut self, id: &ServiceId) -> Result<(), StoreError> {
        let record = self.state.store.service(&self.scope, id).await?;
        if let Some(model) = &mut self.model {
            let touched = model.access.replace(id, record.and_then(service_access));
            self.touch(&touched);
        }
        Ok(())
    }

    async fn refresh_account(&mut self) -> Result<(), StoreError> {
        let Some(row) = self.state.store.account(&self.scope).await? else {
            return Ok(());
        };
        if let Some(model) = &mut self.model {
            let serial = model.network.serial;
            model.network = network(&row, &self.state.config.dns_domain)?;
            model.network.serial = model.network.serial.max(serial);
            model.settings = settings(&row);
            self.dirty = Dirty::All;
        }
        Ok(())
    }

    async fn refresh_peer(&mut self, id: &PeerId) -> Result<(), StoreError> {
        let Some(row) = self.state.store.peer(&self.scope, id).await? else {
            self.remove_peer(id);
            return Ok(());
        };
        let serial = self
            .state
            .store
            .account(&self.scope)
            .await?
            .map(|row| row.network_serial);
        let groups = self.state.store.groups_of_peer(&self.scope, id).await?;
        let Some(model) = &mut self.model else {
            return Ok(());
        };
        model.network.serial = model.network.serial.max(serial.unwrap_or_default());
        let peer = peer_model(row);
        let mut changed = model.peers.get(id) != Some(&peer);
        if peer.proxy_cluster.is_none() {
            for (group, members) in &mut model.groups {
                changed |= !groups.contains(group) && members.remove(id);
            }
            for group in groups {
                changed |= model.groups.entry(group).or_default().insert(id.clone());
            }
        }
        if changed {
            let port = forwarder_port(model.peers.values());
            let before = model.peers.insert(id.clone(), peer.clone());
            let port_changed = port != forwarder_port(model.peers.values());
            self.peer_changed(&peer, port_changed);
            if let Some(before) = before {
                self.peer_changed(&before, false);
            }
        }
        Ok(())
    }

    fn remove_peer(&mut self, id: &PeerId) {
        let Some(model) = &mut self.model else {
            return;
        };
        for members in model.groups.values_mut() {
            members.remove(id);
        }
        model.connected_proxies.remove(id);
        let port = forwarder_port(model.peers.values());
        let removed = model.peers.remove(id);
        let port_changed = port != forwarder_port(model.peers.values());
        if let Some(attached) = self.attached.remove(id) {
            let wire = WireMap::new(removed_map(model));
            attached
                .sink
                .put(PeerUpdate::Removed(wire.encode(model.network.serial + 1)));
        }
        if let Some(removed) = removed {
            self.peer_changed(&removed, port_changed);
        }
    }

    /// Notes whose maps name this peer.
    fn peer_changed(&mut self, peer: &PeerModel, everybody: bool) {
        let Some(model) = &self.model else {
            return;
        };
        let Some(cluster) = peer.proxy_cluster.as_deref().filter(|_| !everybody) else {
            self.dirty = Dirty::All;
            return;
        };
        let mut touched: BTreeSet<PeerId> = model.access.targets_of(cluster);
        touched.extend(
            model
                .members_of(&model.access.groups_using(cluster))
                .into_iter()
                .cloned(),
        );
        touched.insert(peer.id.clone());
        self.add_dirty(touched);
    }

    /// Notes whose private names follow this proxy.
    fn proxy_presence_changed(&mut self, proxy: &PeerId) {
        let Some(model) = &self.model else {
            return;
        };
        let cluster = model
            .peers
            .get(proxy)
            .and_then(|peer| peer.proxy_cluster.as_deref());
        let Some(cluster) = cluster else {
            return;
        };
        let groups = model.access.groups_using(cluster);
        let members = model.members_of(&groups).into_iter().cloned().collect();
        self.add_dirty(members);
    }

    fn touch(&mut self, touched: &Touched) {
        let Some(model) = &self.model else {
            return;
        };
        let mut peers = touched.peers.clone();
        peers.extend(model.members_of(&touched.groups).into_iter().cloned());
        for cluster in &touched.clusters {
            peers.extend(model.proxies_of(cluster).map(|proxy| proxy.id.clone()));
        }
        self.add_dirty(peers);
    }

    fn add_dirty(&mut self, peers: BTreeSet<PeerId>) {
        if let Dirty::Peers(dirty) = &mut self.dirty {
            dirty.extend(peers.into_iter().filter(|peer| self.attached.contains_key(peer)));
        }
    }

    fn is_dirty(&self) -> bool {
        match &self.dirty {
            Dirty::Peers(peers) => !peers.is_empty(),
            Dirty::All => true,
        }
    }

    async fn reload(&mut self) {
        if self.model.is_none() {
            return;
        }
        let domain = &self.state.config.dns_domain;
        match load_account(&self.state.store, &self.scope, domain).await {
            Ok(Some(mut model)) => {
                model.connected_proxies = self
                    .attached
                    .keys()
                    .filter(|peer| {
                        model
                            .peers
                            .get(*peer)
                            .is_some_and(|peer| peer.proxy_cluster.is_some())
                    })
                    .cloned()
                    .collect();
                let gone: Vec<PeerId> = self
                    .attached
                    .keys()
                    .filter(|peer| !model.peers.contains_key(*peer))
                    .cloned()
                    .collect();
                self.model = Some(model);
                self.dirty = Dirty::All;
                self.serial = Serial::ToBeCounted;
                for peer in gone {
                    self.remove_peer(&peer);
                }
            }
            Ok(None) => {
                self.model = None;
                self.attached.clear();
            }
            Err(error) => {
                warn!(%error, "Account could not be read for network maps");
                self.lagging.store(true, Ordering::Release);
            }
        }
    }

    /// Computes the maps that may be different and hands out those that are.
    async fn publish(&mut self) {
        let peers: Vec<PeerId> = match &self.dirty {
            Dirty::All => self.attached.keys().cloned().collect(),
            Dirty::Peers(peers) => peers.iter().cloned().collect(),
        };
        let mut serial = None;
        let mut published = 0;
        for peer in peers {
            let Some(wire) = self.different_map(&peer) else {
                continue;
            };
            let serial = match serial {
                Some(serial) => serial,
                None => match self.next_serial().await {
                    Ok(next) => *serial.insert(next),
                    Err(error) => {
                        warn!(%error, "Network maps are delayed");
                        self.not_before = Instant::now() + RETRY_INTERVAL;
                        return;
                    }
                },
            };
            if let Some(attached) = self.attached.get_mut(&peer) {
                attached.fingerprint = wire.fingerprint();
                attached.sink.put(PeerUpdate::Map(wire.encode(serial)));
                published += 1;
            }
            tokio::task::yield_now().await;
        }
        self.dirty = Dirty::Peers(BTreeSet::new());
        self.serial = Serial::Stored;
        self.not_before = Instant::now() + MIN_INTERVAL;
        if published > 0 {
            debug!(account.id = %self.scope.account(), ?serial, published, "Network maps published");
        }
    }

    /// The map of a peer, unless it is the one that the peer has.
    fn different_map(&self, peer: &PeerId) -> Option<WireMap> {
        let attached = self.attached.get(peer)?;
        let wire = WireMap::new(network_map(self.model.as_ref()?, peer)?);
        (wire.fingerprint() != attached.fingerprint).then_some(wire)
    }

    /// The number of this round, stored before it is used, so that it never goes back after a restart.
    async fn next_serial(&mut self) -> Result<u64, StoreError> {
        let Some(model) = &mut self.model else {
            return Ok(0);
        };
        if self.serial == Serial::ToBeCounted {
            let mut tx = self.state.store.begin().await?;
            let serial = tx.bump_network_serial(&self.scope).await?;
            tx.commit().await?;
            model.network.serial = model.network.serial.max(serial);
            self.serial = Serial::Stored;
        }
        Ok(model.network.serial)
    }
}
