//! The task of one account: follows its changes, computes maps, hands them out.

mod changes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use meshgate_proto::{AccountId, PeerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::load::load_account;
use super::stream::{MapSink, MapStream, PeerUpdate, map_stream};
use super::{AttachError, Command};
use crate::actor::Scope;
use crate::grpc::management_service::WireMap;
use crate::network_map::{AccountModel, network_map};
use crate::state::State;
use crate::store::StoreError;

/// Shortest pause between two rounds of maps: a service and its proxy's peer come within it.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause: an account whose maps are dear to compute is recomputed this rarely.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a round, as a multiple of what the round took.
const PAUSE_FACTOR: u32 = 10;
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
        let wire = WireMap::new(map, &peer);
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

    fn is_dirty(&self) -> bool {
        match &self.dirty {
            Dirty::Peers(peers) => !peers.is_empty(),
            Dirty::All => true,
        }
    }

    /// Computes the maps that may be different and hands out those that are.
    async fn publish(&mut self) {
        let began = Instant::now();
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
        self.not_before = Instant::now() + pause_after(began.elapsed());
        if published > 0 {
            debug!(account.id = %self.scope.account(), ?serial, published, "Network maps published");
        }
    }

    /// The map of a peer, unless it is the one that the peer has.
    fn different_map(&self, peer: &PeerId) -> Option<WireMap> {
        let attached = self.attached.get(peer)?;
        let wire = WireMap::new(network_map(self.model.as_ref()?, peer)?, peer);
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

/// Keeps an account's maps to a tenth of the time, within bounds.
fn pause_after(round: Duration) -> Duration {
    round.saturating_mul(PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE)
}
