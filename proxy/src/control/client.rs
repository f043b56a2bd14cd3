//! The connection to management and the calls that the control half makes on it.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use meshgate_mesh::ManagementUrl;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::proxy_service_client::ProxyServiceClient;
use meshgate_proto::pb::management::sync_mappings_request::Msg;
use meshgate_proto::{AccessLog, DomainName, ProxyHello, Secret, StatusUpdate};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::error::CallError;
use super::stream::{MappingStream, Opener};

/// Longest wait for a TCP and TLS connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which management is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Longest wait for that sign.
const PING_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for other answers.
const CALL: Duration = Duration::from_secs(10);
/// Longest wait for the head of a mapping stream.
const OPEN_STREAM: Duration = Duration::from_secs(20);
/// Largest message of the mapping stream: a snapshot batch of some thousand services.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Why there can be no client at all; the operator must act.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The token cannot stand in a header.
    #[error("the proxy token has characters that cannot be sent")]
    Token,
    /// The file of certificate authorities cannot be read.
    #[error("cannot read the certificate authorities in {path}")]
    RootCa {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The address or TLS settings do not make a connection.
    #[error("cannot prepare the connection to {address}")]
    Endpoint {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Puts the token on every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Calls management over one shared HTTP/2 connection that is made when first needed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ManagementClient {
    calls: ProxyServiceClient<InterceptedService<Channel, Bearer>>,
    address: String,
    cluster: DomainName,
}

impl std::fmt::Debug for ManagementClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagementClient")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Where a client connects and as whom.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings<'a> {
    /// The server.
    pub(crate) management: &'a ManagementUrl,
    /// Further certificate authorities.
    pub(crate) root_ca: Option<&'a Path>,
    /// The proxy token.
    pub(crate) token: &'a Secret<String>,
    /// The cluster's address.
    pub(crate) cluster: &'a DomainName,
}

/// A line of the access log as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct AccessLogLine(pb::AccessLog);

impl AccessLogLine {
    /// Bytes that it takes in a message, without the few that frame it.
    pub(crate) fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }
}

impl From<AccessLog> for AccessLogLine {
    fn from(line: AccessLog) -> Self {
        Self(line.into())
    }
}

impl ManagementClient {
    /// Prepares a client; nothing is connected yet.
    pub(crate) fn new(settings: &ClientSettings<'_>) -> Result<Self, ClientError> {
        let address = settings.management.to_string();
        let wrong = |source| ClientError::Endpoint {
            address: address.clone(),
            source,
        };
        let mut endpoint = Endpoint::from_shared(address.clone())
            .map_err(wrong)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if settings.management.is_tls() {
            endpoint = endpoint.tls_config(tls(settings)?).map_err(wrong)?;
        }
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", settings.token.expose())
            .parse()
            .map_err(|_| ClientError::Token)?;
        bearer.set_sensitive(true);
        let calls = ProxyServiceClient::with_interceptor(endpoint.connect_lazy(), Bearer(bearer))
            .max_decoding_message_size(MAX_MESSAGE);
        Ok(Self {
            calls,
            address,
            cluster: settings.cluster.clone(),
        })
    }

    /// The server, for people.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Reports on a service.
    pub(crate) async fn send_status(&self, update: StatusUpdate) -> Result<(), CallError> {
        let mut calls = self.calls.clone();
        let sent = calls.send_status_update(pb::SendStatusUpdateRequest::from(update));
        self.within(CALL, sent).await.map(drop)
    }

    /// Hands over a line of the access log.
    pub(crate) async fn send_access_log(&self, line: AccessLogLine) -> Result<(), CallError> {
        let mut calls = self.calls.clone();
        let sent = calls.send_access_log(pb::SendAccessLogRequest { log: Some(line.0) });
        self.within(CALL, sent).await.map(drop)
    }

    /// Hands over several lines of the access log and returns how many were refused. Only Meshgate's management
    /// knows this call.
    pub(crate) async fn send_access_logs(&self, lines: Vec<AccessLogLine>) -> Result<u64, CallError> {
        let mut calls = self.calls.clone();
        let logs = lines.into_iter().map(|line| line.0).collect();
        let sent = calls.send_access_logs(pb::SendAccessLogsRequest { logs });
        let answer = self.within(CALL, sent).await?;
        Ok(answer.into_inner().refused.into())
    }

    /// The generated calls.
    pub(super) fn calls(&self) -> ProxyServiceClient<InterceptedService<Channel, Bearer>> {
        self.calls.clone()
    }

    /// The cluster's address.
    pub(super) fn cluster(&self) -> &DomainName {
        &self.cluster
    }

    /// Waits for an answer, but not longer than the deadline.
    pub(super) async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, CallError> {
        let status = match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!("no answer within {} s", deadline.as_secs())),
        };
        Err(CallError::new(&self.address, &status))
    }
}

#[async_trait]
impl Opener for ManagementClient {
    async fn sync_mappings(&self, hello: ProxyHello) -> Result<MappingStream, CallError> {
        // One message is under way at most: the next is sent only after an answer.
        let (outgoing, messages) = mpsc::channel(2);
        let init = pb::SyncMappingsRequest {
            msg: Some(Msg::Init(hello.into())),
        };
        let sent = outgoing.try_send(init);
        debug_assert!(sent.is_ok(), "the channel is new");
        let mut calls = self.calls.clone();
        let opened = self
            .within(OPEN_STREAM, calls.sync_mappings(ReceiverStream::new(messages)))
            .await?;
        Ok(MappingStream::new(
            opened.into_inner(),
            Some(outgoing),
            &self.address,
        ))
    }

    async fn mapping_updates(&self, hello: ProxyHello) -> Result<MappingStream, CallError> {
        let mut calls = self.calls.clone();
        let opened = self.within(
            OPEN_STREAM,
            calls.get_mapping_update(pb::GetMappingUpdateRequest::from(hello)),
        );
        Ok(MappingStream::new(
            opened.await?.into_inner(),
            None,
            &self.address,
        ))
    }

    fn address(&self) -> &str {
        self.address()
    }
}

fn tls(settings: &ClientSettings<'_>) -> Result<ClientTlsConfig, ClientError> {
    let mut tls = ClientTlsConfig::new()
        .with_native_roots()
        .domain_name(settings.management.host());
    if let Some(path) = settings.root_ca {
        let pem = std::fs::read(path).map_err(|source| ClientError::RootCa {
            path: path.display().to_string(),
            source,
        })?;
        tls = tls.ca_certificate(Certificate::from_pem(pem));
    }
    Ok(tls)
}
