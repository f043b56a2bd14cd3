//! The service that proxies call.
//!
//! [`ProxySide`] holds what all its calls share; [`ProxySide::service`] is what the server mounts and
//! [`ProxySide::run`] what it keeps running. Every call is authenticated before it gets here.

mod identity;
mod login;
mod peer;
mod reports;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::proxy_service_server::{ProxyService, ProxyServiceServer};
use meshgate_proto::{InvalidMessage, ProxyHello};
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::access_logs::retention;
use crate::access_logs::writer::{self, AccessLogSink, AccessLogWriter, access_log_queue};
use crate::changes::Change;
use crate::error::UseCaseError;
use crate::grpc::finish::finish;
use crate::grpc::proxy_auth::{Authenticated, ProxyAuth, ProxyCaller};
use crate::one_time_tokens::OneTimeTokens;
use crate::password::{GuessLimiter, PasswordPool};
use crate::reconcile::mappings::{self, MappingHub, PublisherSettings};
use crate::services::statuses::{StatusSink, StatusWriter, status_queue};
use crate::state::State;
use crate::store::StoreError;

/// Rows of proxies that were not seen for this long are forgotten.
const FORGET_PROXIES: Duration = Duration::from_hours(1);
const FORGET_INTERVAL: Duration = Duration::from_mins(5);

/// Largest message of a proxy.
const MAX_REQUEST: usize = 1024 * 1024;

/// Sizes and times of the proxy service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Of mapping streams.
    pub publisher: PublisherSettings,
    /// Time between two signs of life in a proxy's row, and between two checks of its token.
    pub heartbeat: Duration,
    /// Access log entries that may wait to be written.
    pub access_logs: usize,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            publisher: PublisherSettings::default(),
            heartbeat: Duration::from_mins(1),
            access_logs: writer::QUEUE,
        }
    }
}

/// What all calls of proxies share.
#[derive(Debug)]
pub struct ProxySide {
    state: Arc<State>,
    settings: ProxySettings,
    passwords: PasswordPool,
    guesses: GuessLimiter,
    tokens: Arc<OneTimeTokens>,
    hub: MappingHub,
    auth: Arc<ProxyAuth>,
    access_logs: AccessLogSink,
    writer: Mutex<Option<AccessLogWriter>>,
    statuses: StatusSink,
    status_writer: Mutex<Option<StatusWriter>>,
    changes: Mutex<Option<Receiver<Change>>>,
    streams: TaskTracker,
    shutdown: CancellationToken,
}

impl ProxySide {
    /// Prepares the service. All proxies count as gone: whoever is there will come back.
    ///
    /// Streams end when `shutdown` is cancelled.
    pub async fn open(
        state: Arc<State>,
        passwords: PasswordPool,
        settings: ProxySettings,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let mut tx = state.store.begin().await?;
        tx.disconnect_all_proxies_anywhere(state.clock.now()).await?;
        tx.commit().await?;
        let (access_logs, writer) = access_log_queue(settings.access_logs);
        let (statuses, status_writer) = status_queue();
        let changes = Mutex::new(Some(state.changes.subscribe()));
        Ok(Arc::new(Self {
            auth: Arc::new(ProxyAuth::new(Arc::clone(&state))),
            state,
            settings,
            passwords,
            guesses: GuessLimiter::default(),
            tokens: Arc::default(),
            hub: MappingHub::default(),
            access_logs,
            writer: Mutex::new(Some(writer)),
            statuses,
            status_writer: Mutex::new(Some(status_writer)),
            changes,
            streams: TaskTracker::new(),
            shutdown,
        }))
    }

    /// The service to mount. It finds the caller's address as `ConnectInfo<SocketAddr>` in the extensions.
    pub fn service(self: &Arc<Self>) -> Authenticated<ProxyServiceServer<ProxyRpc>> {
        let rpc = ProxyServiceServer::new(ProxyRpc(Arc::clone(self)));
        let rpc = rpc.max_decoding_message_size(MAX_REQUEST);
        Authenticated::new(rpc, Arc::clone(&self.auth))
    }

    /// Publishes changes, writes reports and tidies up, until the shutdown; returns when streams have ended
    /// and all logs are written.
    pub async fn run(&self) {
        let writer = self.writer.lock().take();
        let writer = async {
            if let Some(writer) = writer {
                writer.run(self.state.store.clone(), self.shutdown.clone()).await;
            }
        };
        let statuses = self.status_writer.lock().take();
        let statuses = async {
            if let Some(statuses) = statuses {
                statuses
                    .run(self.state.store.clone(), self.shutdown.clone())
                    .await;
            }
        };
        let changes = self.changes.lock().take();
        let reconciler = async {
            if let Some(changes) = changes {
                let store = self.state.store.clone();
                mappings::run(store, changes, &self.hub, self.shutdown.clone()).await;
            }
        };
        let retention = retention::run(&self.state, self.shutdown.clone());
        tokio::join!(writer, statuses, reconciler, retention, self.forget_proxies());
        self.streams.close();
        self.streams.wait().await;
    }

    /// The proxies that are connected.
    pub fn hub(&self) -> &MappingHub {
        &self.hub
    }

    /// Where access logs go.
    pub fn access_logs(&self) -> &AccessLogSink {
        &self.access_logs
    }

    async fn forget_proxies(&self) {
        let mut turns = tokio::time::interval(FORGET_INTERVAL);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = turns.tick() => {}
            }
            let before = self.state.clock.now().saturating_sub(FORGET_PROXIES);
            let done = async {
                let mut tx = self.state.store.begin().await?;
                tx.delete_stale_proxies_anywhere(before).await?;
                tx.commit().await
            };
            if let Err(error) = done.await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "Proxies that are long gone could not be forgotten");
            }
        }
    }
}

/// The calls, each in a file of its theme.
#[derive(Clone, Debug)]
pub struct ProxyRpc(Arc<ProxySide>);

impl ProxyRpc {
    /// Takes a proxy in, wholly or not at all: a row without its stream would never be marked as gone.
    async fn open_stream(
        &self,
        caller: ProxyCaller,
        hello: ProxyHello,
        acks: Option<Streaming<pb::SyncMappingsRequest>>,
    ) -> Result<stream::Batches, Status> {
        let side = Arc::clone(&self.0);
        let open = async move { stream::open(&side, caller, hello, acks).await };
        finish(&self.0.streams, open).await
    }
}

#[tonic::async_trait]
impl ProxyService for ProxyRpc {
    type GetMappingUpdateStream = BoxStream<'static, Result<pb::GetMappingUpdateResponse, Status>>;
    type SyncMappingsStream = BoxStream<'static, Result<pb::SyncMappingsResponse, Status>>;

    async fn get_mapping_update(
        &self,
        request: Request<pb::GetMappingUpdateRequest>,
    ) -> Result<Response<Self::GetMappingUpdateStream>, Status> {
        let (caller, message) = authenticated(request)?;
        let hello = ProxyHello::try_from(message).map_err(invalid)?;
        let stream = self.open_stream(caller, hello, None).await?;
        Ok(Response::new(stream::responses(stream)))
    }

    async fn sync_mappings(
        &self,
        request: Request<Streaming<pb::SyncMappingsRequest>>,
    ) -> Result<Response<Self::SyncMappingsStream>, Status> {
        let (caller, mut messages) = authenticated(request)?;
        let hello = stream::first_words(&mut messages).await?;
        let stream = self.open_stream(caller, hello, Some(messages)).await?;
        Ok(Response::new(stream::responses(stream)))
    }

    async fn send_access_log(
        &self,
        request: Request<pb::SendAccessLogRequest>,
    ) -> Result<Response<pb::SendAccessLogResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        reports::access_log(&self.0, &caller, message).map(Response::new)
    }

    async fn send_access_logs(
        &self,
        request: Request<pb::SendAccessLogsRequest>,
    ) -> Result<Response<pb::SendAccessLogsResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        reports::access_logs(&self.0, &caller, message).map(Response::new)
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let source = login::client_of(request.metadata());
        let (caller, message) = authenticated(request)?;
        login::authenticate(&self.0, &caller, source, message)
            .await
            .map(Response::new)
    }

    async fn send_status_update(
        &self,
        request: Request<pb::SendStatusUpdateRequest>,
    ) -> Result<Response<pb::SendStatusUpdateResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        reports::status(&self.0, &caller, message)
            .await
            .map(Response::new)
    }

    async fn create_proxy_peer(
        &self,
        request: Request<pb::CreateProxyPeerRequest>,
    ) -> Result<Response<pb::CreateProxyPeerResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        peer::create(&self.0, &caller, message).await.map(Response::new)
    }

    async fn get_oidcurl(
        &self,
        request: Request<pb::GetOidcurlRequest>,
    ) -> Result<Response<pb::GetOidcurlResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        identity::oidc_url(&self.0, &caller, &message)
            .await
            .map(Response::new)
    }

    async fn validate_session(
        &self,
        request: Request<pb::ValidateSessionRequest>,
    ) -> Result<Response<pb::ValidateSessionResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        identity::validate_session(&self.0, &caller, &message)
            .await
            .map(Response::new)
    }

    async fn validate_tunnel_peer(
        &self,
        request: Request<pb::ValidateTunnelPeerRequest>,
    ) -> Result<Response<pb::ValidateTunnelPeerResponse>, Status> {
        let (caller, message) = authenticated(request)?;
        identity::validate_tunnel_peer(&self.0, &caller, &message)
            .await
            .map(Response::new)
    }

    async fn check_llm_policy_limits(
        &self,
        _request: Request<pb::CheckLlmPolicyLimitsRequest>,
    ) -> Result<Response<pb::CheckLlmPolicyLimitsResponse>, Status> {
        Err(Status::unimplemented("language-model gateways are not supported"))
    }

    async fn record_llm_usage(
        &self,
        _request: Request<pb::RecordLlmUsageRequest>,
    ) -> Result<Response<pb::RecordLlmUsageResponse>, Status> {
        Err(Status::unimplemented("language-model gateways are not supported"))
    }
}

/// The caller that the guard found out, and the message. A call without one never passes.
fn authenticated<T>(mut request: Request<T>) -> Result<(ProxyCaller, T), Status> {
    let caller = request.extensions_mut().remove::<ProxyCaller>();
    let caller = caller.ok_or_else(|| Status::unauthenticated("missing authorization header"))?;
    Ok((caller, request.into_inner()))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn invalid(error: InvalidMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

fn internal(error: StoreError) -> Status {
    crate::grpc::status::status(&error.into())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn refused(error: UseCaseError) -> Status {
    crate::grpc::status::status(&error)
}

#[cfg(test)]
mod tests;
