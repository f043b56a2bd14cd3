//! The calls of the proxy service, in domain types.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use meshgate_mesh::ManagementUrl;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::authenticate_request::Request as Shown;
use meshgate_proto::pb::management::proxy_service_client::ProxyServiceClient;
use meshgate_proto::pb::management::sync_mappings_request::Msg;
use meshgate_proto::{
    AccessLog, AccountId, DomainName, MappingBatch, ProxyHello, Secret, ServiceId, StatusUpdate, WgPublicKey,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::login::{Authenticator, CheckError, Credential};
use crate::tunnels::{RegisterError, Registrar};

/// Longest wait for a TCP and TLS connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which management is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Longest wait for that sign.
const PING_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for the check of a secret.
const AUTHENTICATE: Duration = Duration::from_secs(10);
/// Longest wait for the registration of a peer.
const CREATE_PEER: Duration = Duration::from_secs(30);
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

/// A call that failed: what was tried and what answered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("tried {address}: {answer}")]
pub(crate) struct CallError {
    /// The management server.
    pub(crate) address: String,
    /// The status as a kind.
    pub(crate) code: Code,
    /// What came back, in words.
    pub(crate) answer: String,
}

impl CallError {
    fn new(address: &str, status: &Status) -> Self {
        Self {
            address: address.to_owned(),
            code: status.code(),
            answer: describe(status),
        }
    }

    /// True when nobody answered, or not in time.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
        )
    }
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

    /// Opens the mapping stream that wants acknowledgements.
    pub(crate) async fn sync_mappings(&self, hello: ProxyHello) -> Result<MappingStream, CallError> {
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
        let incoming = Incoming::Sync {
            messages: opened.into_inner(),
            outgoing,
        };
        Ok(MappingStream {
            incoming,
            address: self.address.clone(),
        })
    }

    /// Opens the older mapping stream.
    pub(crate) async fn mapping_updates(&self, hello: ProxyHello) -> Result<MappingStream, CallError> {
        let mut calls = self.calls.clone();
        let opened = self.within(
            OPEN_STREAM,
            calls.get_mapping_update(pb::GetMappingUpdateRequest::from(hello)),
        );
        let incoming = Incoming::Update(opened.await?.into_inner());
        Ok(MappingStream {
            incoming,
            address: self.address.clone(),
        })
    }

    /// Reports on a service.
    pub(crate) async fn send_status(&self, update: StatusUpdate) -> Result<(), CallError> {
        let mut calls = self.calls.clone();
        let sent = calls.send_status_update(pb::SendStatusUpdateRequest::from(update));
        self.within(CALL, sent).await.map(drop)
    }

    /// Hands over a line of the access log.
    pub(crate) async fn send_access_log(&self, line: AccessLog) -> Result<(), CallError> {
        let mut calls = self.calls.clone();
        let sent = calls.send_access_log(pb::SendAccessLogRequest {
            log: Some(line.into()),
        });
        self.within(CALL, sent).await.map(drop)
    }

    async fn within<T>(
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
impl Authenticator for ManagementClient {
    async fn authenticate(
        &self,
        service: &ServiceId,
        account: &AccountId,
        credential: Credential,
    ) -> Result<Option<Secret<String>>, CheckError> {
        let shown = match credential {
            Credential::Password(password) => Shown::Password(pb::PasswordRequest {
                password: password.expose().clone(),
            }),
            Credential::Pin(pin) => Shown::Pin(pb::PinRequest {
                pin: pin.expose().clone(),
            }),
            Credential::Header { name, value } => Shown::HeaderAuth(pb::HeaderAuthRequest {
                header_value: value.expose().clone(),
                header_name: name,
            }),
        };
        let request = pb::AuthenticateRequest {
            id: service.as_str().to_owned(),
            account_id: account.as_str().to_owned(),
            request: Some(shown),
        };
        let mut calls = self.calls.clone();
        match self.within(AUTHENTICATE, calls.authenticate(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Ok(answer.success.then(|| Secret::new(answer.session_token)))
            }
            Err(error) => {
                tracing::debug!(service.id = %service, error = %error, "Authenticate failed");
                Err(match error.code {
                    Code::ResourceExhausted => CheckError::Exhausted,
                    _ if error.is_unreachable() => CheckError::Unreachable,
                    _ => CheckError::Refused,
                })
            }
        }
    }
}

#[async_trait]
impl Registrar for ManagementClient {
    async fn create_peer(
        &self,
        account: &AccountId,
        service: &ServiceId,
        token: &Secret<String>,
        key: WgPublicKey,
    ) -> Result<(), RegisterError> {
        let request = pb::CreateProxyPeerRequest {
            service_id: service.as_str().to_owned(),
            account_id: account.as_str().to_owned(),
            token: token.expose().clone(),
            wireguard_public_key: key.to_string(),
            cluster: self.cluster.to_string(),
        };
        let mut calls = self.calls.clone();
        let answer = self.within(CREATE_PEER, calls.create_proxy_peer(request)).await;
        let answer = answer.map_err(|error| match error.code {
            Code::Unauthenticated => RegisterError::TokenUsed,
            _ => RegisterError::Failed(error.to_string()),
        })?;
        let answer = answer.into_inner();
        if answer.success {
            return Ok(());
        }
        Err(RegisterError::Failed(
            answer
                .error_message
                .unwrap_or_else(|| "management gave no reason".into()),
        ))
    }
}

/// Messages of a mapping stream, from either call.
#[derive(Debug)]
pub(crate) struct MappingStream {
    incoming: Incoming,
    address: String,
}

#[derive(Debug)]
enum Incoming {
    Sync {
        messages: Streaming<pb::SyncMappingsResponse>,
        outgoing: mpsc::Sender<pb::SyncMappingsRequest>,
    },
    Update(Streaming<pb::GetMappingUpdateResponse>),
}

impl MappingStream {
    /// The next message; `None` when management ended the stream without a reason. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<MappingBatch>, CallError> {
        let batch = match &mut self.incoming {
            Incoming::Sync { messages, .. } => {
                messages.message().await.map(|message| message.map(Into::into))
            }
            Incoming::Update(messages) => messages.message().await.map(|message| message.map(Into::into)),
        };
        batch.map_err(|status| CallError::new(&self.address, &status))
    }

    /// Says that the last message is applied, where management wants to know.
    pub(crate) async fn acknowledge(&mut self) {
        match &self.incoming {
            Incoming::Sync { outgoing, .. } => {
                let ack = pb::SyncMappingsRequest {
                    msg: Some(Msg::Ack(pb::SyncMappingsAck {})),
                };
                // A closed channel means a stream that has ended; the next message says so.
                let _ = outgoing.send(ack).await;
            }
            Incoming::Update(_) => {}
        }
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

/// The status with everything below it, because the cause of a broken connection stands at the bottom.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}", status.code());
    let mut last = String::new();
    let mut add = |part: String| {
        if !part.is_empty() && !last.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
            last = part;
        }
    };
    add(status.message().to_owned());
    let mut cause = status.source();
    while let Some(error) = cause {
        add(error.to_string());
        cause = error.source();
    }
    text
}
