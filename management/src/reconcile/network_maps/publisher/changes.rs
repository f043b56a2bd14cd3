//! What a committed change means for the model of an account, and whose maps it may touch.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use meshgate_proto::{PeerId, ServiceId};
use tracing::warn;

use super::{Dirty, Publisher, Serial};
use crate::changes::Change;
use crate::grpc::management_service::WireMap;
use crate::network_map::{PeerModel, Touched, forwarder_port, removed_map};
use crate::reconcile::network_maps::access::service_access;
use crate::reconcile::network_maps::load::{
    load_account, load_groups, load_policies, network, peer_model, settings,
};
use crate::reconcile::network_maps::stream::PeerUpdate;
use crate::store::StoreError;

impl Publisher {
    /// Brings the model to what is stored now.
    pub(super) async fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        if !matches!(change, Change::Peer { .. } | Change::PeerMeta { .. }) {
            self.serial = Serial::ToBeCounted;
        }
        match change {
            Change::Service { service, .. } | Change::ServiceRemoved { service, .. } => {
                self.refresh_service(&service).await?;
            }
            Change::Peer { peer, .. } | Change::PeerMeta { peer, .. } => self.refresh_peer(&peer).await?,
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
            self.forget_account();
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

    pub(super) async fn refresh_peer(&mut self, id: &PeerId) -> Result<(), StoreError> {
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
            let wire = WireMap::new(removed_map(model), id);
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
    pub(super) fn proxy_presence_changed(&mut self, proxy: &PeerId) {
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

    /// Reads everything again, after news was lost.
    pub(super) async fn reload(&mut self) {
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
            Ok(None) => self.forget_account(),
            Err(error) => {
                warn!(%error, "Account could not be read for network maps");
                self.lagging.store(true, Ordering::Release);
            }
        }
    }

    /// Ends all streams: their peers went with the account.
    fn forget_account(&mut self) {
        self.model = None;
        self.attached.clear();
    }
}
