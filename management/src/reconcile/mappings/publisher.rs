//! One proxy's stream: the snapshot in batches, then the changes. What changed while a message was on its way
//! goes together into the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::{AccountId, Clock, Mapping, MappingBatch, MappingChange, PeerId, ServiceId, TokenId};
use tokio::sync::mpsc;

use super::desired::{ProxyView, TargetHosts, desired_mapping};
use super::hub::{Dirty, StreamEnd};
use super::published::Published;
use super::size;
use crate::actor::Scope;
use crate::one_time_tokens::{Grant, OneTimeTokens};
use crate::store::service_records::{ServiceRecord, TargetType};
use crate::store::{Store, StoreError};

/// News that are looked at together, at most.
const TOGETHER: usize = 64;

/// Sizes and times of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherSettings {
    /// Services in one batch of the snapshot.
    pub batch: u32,
    /// Longest wait for an acknowledgement. A proxy may have to register a peer for each account of a batch.
    pub ack_timeout: Duration,
    /// Changes that may wait for the end of the snapshot; more of them start it over.
    pub deferred: usize,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            batch: 500,
            ack_timeout: Duration::from_mins(10),
            deferred: 10_000,
        }
    }
}

/// Whether the proxy acknowledges batches.
#[derive(Debug)]
pub enum Acks {
    /// It does; one item for each.
    Awaited(mpsc::Receiver<()>),
    /// The older call has no way to.
    None,
}

/// Where batches go, and at last why there are no more.
pub type Outlet = mpsc::Sender<Result<MappingBatch, StreamEnd>>;

/// Sends one proxy what it should know.
pub struct Publisher {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where one-time tokens come from.
    pub tokens: Arc<OneTimeTokens>,
    /// The proxy.
    pub view: ProxyView,
    /// The token it called with.
    pub proxy_token: TokenId,
    /// Sizes and times.
    pub settings: PublisherSettings,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Publishes until the proxy hangs up or does not keep up; returns why.
    pub async fn run(&self, out: &Outlet, acks: Acks, dirty: &mut mpsc::Receiver<Dirty>) -> StreamEnd {
        let mut published = Published::default();
        let mut deferred = HashSet::new();
        if let Err(end) = self
            .snapshot(out, acks, dirty, &mut published, &mut deferred)
            .await
        {
            return end;
        }
        let deferred: Vec<_> = deferred.into_iter().collect();
        for items in deferred.chunks(TOGETHER) {
            if let Err(end) = self.look(items, out, &mut published).await {
                return end;
            }
        }
        let mut items = Vec::with_capacity(TOGETHER);
        loop {
            items.clear();
            let news = tokio::select! {
                news = dirty.recv_many(&mut items, TOGETHER) => news,
                () = out.closed() => return StreamEnd::Closed,
            };
            if news == 0 {
                return StreamEnd::Superseded;
            }
            if let Err(end) = self.look(&items, out, &mut published).await {
                return end;
            }
        }
    }

    /// Services are read page by page, so the size of an account does not show in memory.
    async fn snapshot(
        &self,
        out: &Outlet,
        mut acks: Acks,
        dirty: &mut mpsc::Receiver<Dirty>,
        published: &mut Published,
        deferred: &mut HashSet<Dirty>,
    ) -> Result<(), StreamEnd> {
        let mut after: Option<ServiceId> = None;
        loop {
            let page = self.page(after.as_ref()).await.map_err(failed)?;
            let last = page.len() < self.settings.batch as usize;
            after = page.last().map(|record| record.service.id.clone());
            let hosts = self.hosts(&page).await.map_err(failed)?;
            let mut changes = Vec::with_capacity(page.len());
            for record in &page {
                let desired = desired_mapping(record, &hosts, &self.view);
                changes.extend(published.update(&record.service.account_id, &record.service.id, desired));
            }
            if !last && changes.is_empty() {
                continue;
            }
            let mut batches = size::batches(changes).into_iter().peekable();
            while let Some(batch) = batches.next() {
                if let Acks::Awaited(acks) = &mut acks {
                    while acks.try_recv().is_ok() {}
                }
                self.send(out, batch, last && batches.peek().is_none()).await?;
                self.acknowledged(&mut acks, out, dirty, deferred).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Waits for the acknowledgement; what changes meanwhile is put aside.
    async fn acknowledged(
        &self,
        acks: &mut Acks,
        out: &Outlet,
        dirty: &mut mpsc::Receiver<Dirty>,
        deferred: &mut HashSet<Dirty>,
    ) -> Result<(), StreamEnd> {
        let Acks::Awaited(acks) = acks else { return Ok(()) };
        let deadline = tokio::time::sleep(self.settings.ack_timeout);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ack = acks.recv() => return ack.ok_or(StreamEnd::Closed),
                () = out.closed() => return Err(StreamEnd::Closed),
                () = &mut deadline => return Err(StreamEnd::NoAck),
                item = dirty.recv() => {
                    deferred.insert(item.ok_or(StreamEnd::Superseded)?);
                    if deferred.len() > self.settings.deferred {
                        return Err(StreamEnd::Overflow);
                    }
                }
            }
        }
    }

    /// Brings what the news are about to the present state.
    async fn look(&self, news: &[Dirty], out: &Outlet, published: &mut Published) -> Result<(), StreamEnd> {
        let mut changes = Vec::new();
        for item in news {
            match item {
                Dirty::Service { account, service } => {
                    changes.extend(self.look_at(account, service, published).await?);
                }
                Dirty::Target { account, target } => {
                    changes.extend(self.look_at_target(account, target, published).await?);
                }
            }
        }
        for batch in size::batches(changes) {
            if !batch.is_empty() {
                self.send(out, batch, false).await?;
            }
        }
        Ok(())
    }

    async fn look_at_target(
        &self,
        account: &AccountId,
        target: &PeerId,
        published: &mut Published,
    ) -> Result<Vec<MappingChange>, StreamEnd> {
        let mut changes = Vec::new();
        let scope = Scope::authenticated(account.clone());
        let mut after: Option<ServiceId> = None;
        loop {
            let ids =
                self.store
                    .services_with_target(&scope, target.as_str(), after.as_ref(), self.settings.batch);
            let ids = ids.await.map_err(failed)?;
            for id in &ids {
                changes.extend(self.look_at(account, id, published).await?);
            }
            if ids.len() < self.settings.batch as usize {
                return Ok(changes);
            }
            after = ids.last().cloned();
        }
    }

    async fn look_at(
        &self,
        account: &AccountId,
        service: &ServiceId,
        published: &mut Published,
    ) -> Result<Vec<MappingChange>, StreamEnd> {
        let desired = self.desired(account, service).await.map_err(failed)?;
        Ok(published.update(account, service, desired))
    }

    async fn desired(&self, account: &AccountId, service: &ServiceId) -> Result<Option<Mapping>, StoreError> {
        let scope = Scope::authenticated(account.clone());
        let Some(record) = self.store.service(&scope, service).await? else {
            return Ok(None);
        };
        let records = [record];
        let hosts = self.hosts(&records).await?;
        let [record] = &records;
        Ok(desired_mapping(record, &hosts, &self.view))
    }

    async fn page(&self, after: Option<&ServiceId>) -> Result<Vec<ServiceRecord>, StoreError> {
        let ProxyView { cluster, account, .. } = &self.view;
        self.store
            .cluster_services_anywhere(cluster, account.as_ref(), after, self.settings.batch)
            .await
    }

    /// Overlay addresses of the peers that these services lead to.
    async fn hosts(&self, records: &[ServiceRecord]) -> Result<TargetHosts, StoreError> {
        let mut hosts = TargetHosts::default();
        let targets = records.iter().flat_map(|record| &record.targets);
        for target in targets.filter(|target| target.target_type == TargetType::Peer) {
            if hosts.contains(&target.target_id) {
                continue;
            }
            let scope = Scope::authenticated(target.account_id.clone());
            let peer = PeerId::new(target.target_id.clone());
            if let Some(peer) = self.store.peer(&scope, &peer).await? {
                hosts.insert(target.target_id.clone(), peer.ip.into());
            }
        }
        Ok(hosts)
    }

    async fn send(
        &self,
        out: &Outlet,
        mut changes: Vec<MappingChange>,
        initial_sync_complete: bool,
    ) -> Result<(), StreamEnd> {
        for change in &mut changes {
            self.give_token(change);
        }
        let batch = MappingBatch {
            changes,
            broken: Vec::new(),
            initial_sync_complete,
        };
        out.send(Ok(batch)).await.map_err(|_| StreamEnd::Closed)
    }

    fn give_token(&self, change: &mut MappingChange) {
        let (MappingChange::Created(mapping) | MappingChange::Modified(mapping)) = change else {
            return;
        };
        let grant = Grant {
            service: mapping.id.clone(),
            account: mapping.account_id.clone(),
            proxy_token: self.proxy_token.clone(),
            cluster: self.view.cluster.clone(),
        };
        mapping.auth_token = self.tokens.issue(grant, self.clock.now());
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn failed(error: StoreError) -> StreamEnd {
    tracing::error!(
        error = &error as &dyn std::error::Error,
        "Could not read services for a proxy"
    );
    StreamEnd::Internal
}
