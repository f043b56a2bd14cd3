//! A management server of a few lines, over real gRPC.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::proxy_service_server::{ProxyService, ProxyServiceServer};
use meshgate_proto::pb::management::sync_mappings_request::Msg;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const TOKEN: &str = "nbx_test";

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) hellos: Vec<pb::SyncMappingsInit>,
    pub(crate) older_hellos: usize,
    pub(crate) acks: usize,
    pub(crate) statuses: Vec<pb::SendStatusUpdateRequest>,
    pub(crate) peers: Vec<pb::CreateProxyPeerRequest>,
    pub(crate) lines: Vec<pb::AccessLog>,
    /// Clients that calls of Authenticate named.
    pub(crate) clients: Vec<String>,
    /// Messages with several lines of the access log.
    pub(crate) batches: usize,
}

/// How the server behaves.
#[derive(Debug)]
struct Behaviour {
    token: String,
    knows_sync: bool,
    knows_batches: bool,
    snapshot: Vec<pb::SyncMappingsResponse>,
    live: Option<mpsc::Sender<Result<pb::SyncMappingsResponse, Status>>>,
    status_error: Option<Status>,
}

#[derive(Debug)]
struct Shared {
    seen: watch::Sender<Seen>,
    behaviour: Mutex<Behaviour>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Server {
    /// A server that sends these messages as its snapshot.
    pub(crate) async fn start(snapshot: Vec<pb::SyncMappingsResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, snapshot)
    }

    pub(crate) fn on(listener: TcpListener, snapshot: Vec<pb::SyncMappingsResponse>) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: watch::Sender::new(Seen::default()),
            behaviour: Mutex::new(Behaviour {
                token: TOKEN.to_owned(),
                knows_sync: true,
                knows_batches: true,
                snapshot,
                live: None,
                status_error: None,
            }),
        });
        let stop = CancellationToken::new();
        let service = ProxyServiceServer::new(Service(Arc::clone(&shared)));
        let incoming = TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming);
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                served = server => served.unwrap(),
            }
        });
        Self {
            address,
            shared,
            _stop: stop.drop_guard(),
        }
    }

    /// Waits until what was seen fulfils a condition.
    pub(crate) async fn until(&self, condition: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), seen.wait_for(condition)).await;
        waited
            .unwrap_or_else(|_| panic!("not seen in time: {:?}", self.shared.seen.borrow()))
            .unwrap()
            .clone()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Sends a live update on the present stream.
    pub(crate) async fn send(&self, message: pb::SyncMappingsResponse) {
        let live = self.shared.behaviour.lock().live.clone().unwrap();
        live.send(Ok(message)).await.unwrap();
    }

    /// Ends the present stream with a status.
    pub(crate) async fn end_stream(&self, status: Status) {
        let live = self.shared.behaviour.lock().live.take().unwrap();
        live.send(Err(status)).await.unwrap();
    }

    pub(crate) fn set_snapshot(&self, snapshot: Vec<pb::SyncMappingsResponse>) {
        self.shared.behaviour.lock().snapshot = snapshot;
    }

    pub(crate) fn forget_sync(&self) {
        self.shared.behaviour.lock().knows_sync = false;
    }

    /// From now on, lines of the access log are only known one by one.
    pub(crate) fn forget_batches(&self) {
        self.shared.behaviour.lock().knows_batches = false;
    }

    pub(crate) fn revoke_token(&self) {
        "nbx_other".clone_into(&mut self.shared.behaviour.lock().token);
    }

    pub(crate) fn set_token(&self, token: &str) {
        token.clone_into(&mut self.shared.behaviour.lock().token);
    }

    pub(crate) fn fail_statuses(&self, status: Option<Status>) {
        self.shared.behaviour.lock().status_error = status;
    }
}

#[derive(Debug)]
struct Service(Arc<Shared>);

impl Service {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let expected = format!("Bearer {}", self.0.behaviour.lock().token);
        let shown = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if shown == Some(&expected) {
            Ok(())
        } else {
            Err(Status::unauthenticated("token is invalid"))
        }
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.0.seen.send_modify(change);
    }
}

/// Sends the snapshot, waiting for an acknowledgement after each message, then live updates.
async fn serve_sync(
    shared: Arc<Shared>,
    mut requests: Streaming<pb::SyncMappingsRequest>,
    answers: mpsc::Sender<Result<pb::SyncMappingsResponse, Status>>,
) {
    let Ok(Some(pb::SyncMappingsRequest {
        msg: Some(Msg::Init(init)),
    })) = requests.message().await
    else {
        let _ = answers.send(Err(Status::invalid_argument("init first"))).await;
        return;
    };
    shared.seen.send_modify(|seen| seen.hellos.push(init));
    let snapshot = {
        let mut behaviour = shared.behaviour.lock();
        behaviour.live = Some(answers.clone());
        behaviour.snapshot.clone()
    };
    for message in snapshot {
        if answers.send(Ok(message)).await.is_err() {
            return;
        }
        let Ok(Some(_)) = requests.message().await else {
            return;
        };
        shared.seen.send_modify(|seen| seen.acks += 1);
    }
    while let Ok(Some(_)) = requests.message().await {
        shared.seen.send_modify(|seen| seen.acks += 1);
    }
}

#[tonic::async_trait]
impl ProxyService for Service {
    type GetMappingUpdateStream = Answers<pb::GetMappingUpdateResponse>;
    type SyncMappingsStream = Answers<pb::SyncMappingsResponse>;

    async fn get_mapping_update(
        &self,
        request: Request<pb::GetMappingUpdateRequest>,
    ) -> Result<Response<Self::GetMappingUpdateStream>, Status> {
        self.admit(&request)?;
        self.note(|seen| seen.older_hellos += 1);
        let messages = self
            .0
            .behaviour
            .lock()
            .snapshot
            .clone()
            .into_iter()
            .map(|message| {
                Ok(pb::GetMappingUpdateResponse {
                    mapping: message.mapping,
                    initial_sync_complete: message.initial_sync_complete,
                })
            });
        let messages: Vec<_> = messages.collect();
        let open = futures::StreamExt::chain(futures::stream::iter(messages), futures::stream::pending());
        Ok(Response::new(Box::pin(open)))
    }

    async fn sync_mappings(
        &self,
        request: Request<Streaming<pb::SyncMappingsRequest>>,
    ) -> Result<Response<Self::SyncMappingsStream>, Status> {
        self.admit(&request)?;
        if !self.0.behaviour.lock().knows_sync {
            return Err(Status::unimplemented("unknown method SyncMappings"));
        }
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(serve_sync(Arc::clone(&self.0), request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn send_access_log(
        &self,
        request: Request<pb::SendAccessLogRequest>,
    ) -> Result<Response<pb::SendAccessLogResponse>, Status> {
        self.admit(&request)?;
        let line = request.into_inner().log.unwrap();
        self.note(|seen| seen.lines.push(line));
        Ok(Response::new(pb::SendAccessLogResponse::default()))
    }

    async fn send_access_logs(
        &self,
        request: Request<pb::SendAccessLogsRequest>,
    ) -> Result<Response<pb::SendAccessLogsResponse>, Status> {
        self.admit(&request)?;
        if !self.0.behaviour.lock().knows_batches {
            return Err(Status::unimplemented("unknown method SendAccessLogs"));
        }
        let mut lines = request.into_inner().logs;
        self.note(|seen| {
            seen.batches += 1;
            seen.lines.append(&mut lines);
        });
        Ok(Response::new(pb::SendAccessLogsResponse::default()))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        self.admit(&request)?;
        if let Some(client) = request.metadata().get("meshgate-client-address") {
            let client = client.to_str().unwrap().to_owned();
            self.note(|seen| seen.clients.push(client));
        }
        let right = matches!(
            request.into_inner().request,
            Some(pb::authenticate_request::Request::Pin(pin)) if pin.pin == "1234"
        );
        let session_token = if right { "a.b.c".to_owned() } else { String::new() };
        Ok(Response::new(pb::AuthenticateResponse {
            success: right,
            session_token,
        }))
    }

    async fn send_status_update(
        &self,
        request: Request<pb::SendStatusUpdateRequest>,
    ) -> Result<Response<pb::SendStatusUpdateResponse>, Status> {
        self.admit(&request)?;
        if let Some(status) = self.0.behaviour.lock().status_error.clone() {
            return Err(status);
        }
        self.note(|seen| seen.statuses.push(request.into_inner()));
        Ok(Response::new(pb::SendStatusUpdateResponse::default()))
    }

    async fn create_proxy_peer(
        &self,
        request: Request<pb::CreateProxyPeerRequest>,
    ) -> Result<Response<pb::CreateProxyPeerResponse>, Status> {
        self.admit(&request)?;
        self.note(|seen| seen.peers.push(request.into_inner()));
        Ok(Response::new(pb::CreateProxyPeerResponse {
            success: true,
            error_message: None,
        }))
    }

    async fn get_oidcurl(
        &self,
        _: Request<pb::GetOidcurlRequest>,
    ) -> Result<Response<pb::GetOidcurlResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn validate_session(
        &self,
        _: Request<pb::ValidateSessionRequest>,
    ) -> Result<Response<pb::ValidateSessionResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn validate_tunnel_peer(
        &self,
        _: Request<pb::ValidateTunnelPeerRequest>,
    ) -> Result<Response<pb::ValidateTunnelPeerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn check_llm_policy_limits(
        &self,
        _: Request<pb::CheckLlmPolicyLimitsRequest>,
    ) -> Result<Response<pb::CheckLlmPolicyLimitsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn record_llm_usage(
        &self,
        _: Request<pb::RecordLlmUsageRequest>,
    ) -> Result<Response<pb::RecordLlmUsageResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
