//! Mapping streams: from the first words of a proxy to the end of its stream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use meshgate_proto::pb::management as pb;
use meshgate_proto::{DomainName, MappingBatch, ProxyHello};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::{ProxySide, internal, invalid};
use crate::changes::Change;
use crate::grpc::proxy_auth::ProxyCaller;
use crate::reconcile::mappings::publisher::{Acks, Outlet};
use crate::reconcile::mappings::{Connection, ProxyView, Publisher, StreamEnd};
use crate::store::StoreError;
use crate::store::proxies::ProxyRow;

/// Batches that may wait for the network.
const OUTLET: usize = 4;
/// Longest wait for a proxy's first words.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest try to tell a proxy why its stream ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a publisher sends, until it ends.
pub(super) type Batches = mpsc::Receiver<Result<MappingBatch, StreamEnd>>;

/// Reads the introduction that comes before anything else.
pub(super) async fn first_words(
    messages: &mut Streaming<pb::SyncMappingsRequest>,
) -> Result<ProxyHello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, messages.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no init message came"))??;
    match first.and_then(|message| message.msg) {
        Some(pb::sync_mappings_request::Msg::Init(init)) => ProxyHello::try_from(init).map_err(invalid),
        Some(pb::sync_mappings_request::Msg::Ack(_)) | None => {
            Err(Status::invalid_argument("the first message must be init"))
        }
    }
}

/// Takes a proxy in and starts to publish. `acks` is the rest of its messages, where the call has them.
pub(super) async fn open(
    side: &Arc<ProxySide>,
    caller: ProxyCaller,
    hello: ProxyHello,
    acks: Option<Streaming<pb::SyncMappingsRequest>>,
) -> Result<Batches, Status> {
    if side.shutdown.is_cancelled() {
        return Err(status(StreamEnd::Shutdown));
    }
    let session = Uuid::new_v4();
    let row = row(side, &caller, hello, session)?;
    admit(side, &caller, &row).await?;
    let view = ProxyView {
        account: row.account.clone(),
        cluster: row.cluster_address.clone(),
        capabilities: row.capabilities,
    };
    let connection = side
        .hub
        .connect(row.id.clone(), session, &view, caller.token().clone());
    side.state.changes.publish(Change::ProxiesChanged {
        cluster: view.cluster.clone(),
    });
    tracing::info!(proxy.id = %row.id, cluster = view.cluster, version = row.version, "Proxy connected");
    let (out, batches) = mpsc::channel(OUTLET);
    let stream = ProxyStream {
        side: Arc::clone(side),
        caller,
        row,
        session,
    };
    side.streams.spawn(stream.drive(view, connection, out, acks));
    Ok(batches)
}

/// Turns what a publisher sends into messages of either call.
pub(super) fn responses<T>(batches: Batches) -> BoxStream<'static, Result<T, Status>>
where
    T: From<MappingBatch> + Send + 'static,
{
    ReceiverStream::new(batches)
        .map(|batch| batch.map(T::from).map_err(status))
        .boxed()
}

fn status(end: StreamEnd) -> Status {
    let message = end.to_string();
    match end {
        StreamEnd::Superseded | StreamEnd::Revoked | StreamEnd::Closed => Status::cancelled(message),
        StreamEnd::Overflow => Status::aborted(message),
        StreamEnd::NoAck => Status::deadline_exceeded(message),
        StreamEnd::Internal => Status::internal(message),
        StreamEnd::Shutdown => Status::unavailable(message),
    }
}

fn row(side: &ProxySide, caller: &ProxyCaller, hello: ProxyHello, session: Uuid) -> Result<ProxyRow, Status> {
    let address = cluster_address(&hello.address);
    let now = side.state.clock.now();
    Ok(ProxyRow {
        id: hello.proxy_id,
        session_id: session.to_string(),
        cluster_address: address.ok_or_else(|| Status::invalid_argument("proxy address is invalid"))?,
        ip_address: caller.address().to_string(),
        account: caller.account().cloned(),
        last_seen: now,
        connected_at: now,
        disconnected_at: None,
        connected: true,
        version: hello.version.chars().take(64).collect(),
        capabilities: hello.capabilities.unwrap_or_default(),
    })
}

/// A domain name in lower case, or an IP address.
fn cluster_address(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    DomainName::new(text).ok().map(|name| name.to_string())
}

/// Writes the proxy's row, unless the cluster or the proxy's id belongs to somebody else.
async fn admit(side: &ProxySide, caller: &ProxyCaller, row: &ProxyRow) -> Result<(), Status> {
    let owner = side.hub.owner(&row.id);
    if owner.is_some_and(|owner| owner != row.account) {
        return Err(Status::already_exists(
            "a proxy of another owner is connected under this proxy id",
        ));
    }
    let mut tx = side.state.store.begin().await.map_err(internal)?;
    if let Some(account) = caller.account() {
        let scope = caller.scope_of(account)?;
        if tx
            .cluster_is_foreign(&scope, &row.cluster_address)
            .await
            .map_err(internal)?
        {
            let message = format!("cluster address {} is already in use", row.cluster_address);
            return Err(Status::already_exists(message));
        }
    }
    tx.put_proxy_anywhere(row).await.map_err(internal)?;
    tx.commit().await.map_err(internal)
}

/// One proxy's connection.
struct ProxyStream {
    side: Arc<ProxySide>,
    caller: ProxyCaller,
    row: ProxyRow,
    session: Uuid,
}

impl ProxyStream {
    async fn drive(
        self,
        view: ProxyView,
        connection: Connection,
        out: Outlet,
        requests: Option<Streaming<pb::SyncMappingsRequest>>,
    ) {
        let Connection { mut dirty, mut end } = connection;
        let publisher = Publisher {
            store: self.side.state.store.clone(),
            clock: Arc::clone(&self.side.state.clock),
            tokens: Arc::clone(&self.side.tokens),
            view,
            proxy_token: self.caller.token().clone(),
            settings: self.side.settings.publisher,
        };
        let (ack_sender, ack_receiver) = mpsc::channel(1);
        let acks = if requests.is_some() {
            Acks::Awaited(ack_receiver)
        } else {
            Acks::None
        };
        let why = tokio::select! {
            why = publisher.run(&out, acks, &mut dirty) => why,
            why = end.wait() => why,
            why = self.heartbeat() => why,
            why = read_acks(requests, ack_sender) => why,
            () = self.side.shutdown.cancelled() => StreamEnd::Shutdown,
        };
        tracing::info!(proxy.id = %self.row.id, reason = %why, "Stream of a proxy ended");
        self.leave().await;
        if why != StreamEnd::Closed {
            // A proxy that reads nothing need not be told; dropping the sender ends its stream too.
            let _unread = tokio::time::timeout(FAREWELL, out.send(Err(why))).await;
        }
    }

    /// Shows that the proxy lives and that its token still opens. A row that was deleted comes back.
    async fn heartbeat(&self) -> StreamEnd {
        let mut turns = tokio::time::interval(self.side.settings.heartbeat);
        turns.tick().await;
        loop {
            turns.tick().await;
            match self.beat().await {
                Ok(true) => {}
                Ok(false) => return StreamEnd::Revoked,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(proxy.id = %self.row.id, error, "Heartbeat of a proxy could not be written");
                }
            }
        }
    }

    async fn beat(&self) -> Result<bool, StoreError> {
        if !self.side.auth.still_valid(self.caller.token()).await? {
            return Ok(false);
        }
        let row = ProxyRow {
            last_seen: self.side.state.clock.now(),
            ..self.row.clone()
        };
        let mut tx = self.side.state.store.begin().await?;
        tx.put_proxy_anywhere(&row).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn leave(&self) {
        if !self.side.hub.disconnect(&self.row.id, self.session) {
            return;
        }
        let now = self.side.state.clock.now();
        let noted = async {
            let mut tx = self.side.state.store.begin().await?;
            tx.disconnect_proxy_anywhere(&self.row.id, &self.row.session_id, now)
                .await?;
            tx.commit().await
        };
        if let Err(error) = noted.await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(proxy.id = %self.row.id, error, "End of a proxy's connection could not be noted");
        }
        let cluster = self.row.cluster_address.clone();
        self.side
            .state
            .changes
            .publish(Change::ProxiesChanged { cluster });
    }
}

/// Reads acknowledgements for ever; the ones nobody waits for are dropped.
async fn read_acks(
    requests: Option<Streaming<pb::SyncMappingsRequest>>,
    acks: mpsc::Sender<()>,
) -> StreamEnd {
    let Some(mut requests) = requests else {
        return std::future::pending().await;
    };
    loop {
        match requests.message().await {
            Ok(Some(message)) => {
                if matches!(message.msg, Some(pb::sync_mappings_request::Msg::Ack(_))) {
                    let _unawaited = acks.try_send(());
                }
            }
            Ok(None) | Err(_) => return StreamEnd::Closed,
        }
    }
}
