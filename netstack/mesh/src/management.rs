//! One connection to the management server: sealed calls.

use std::future::Future;
use std::time::Duration;

use meshgate_proto::envelope::Envelope;
use meshgate_proto::network_map::{LoginRequest, LoginResponse, SyncUpdate, SystemMeta};
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::management_service_client::ManagementServiceClient;
use meshgate_proto::{InvalidMessage, WgPrivateKey};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use crate::channel::{self, ChannelError, MAX_MESSAGE};
use crate::trust::Trust;

/// Time for the server's key.
const KEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for any other answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManagementError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{call} was not answered within {} s", after.as_secs())]
    TimedOut { call: &'static str, after: Duration },
    #[error("{call} failed with {code:?}: {message}")]
    Refused {
        call: &'static str,
        code: Code,
        message: String,
    },
    #[error("the server's key is unusable")]
    ServerKey,
    #[error("an answer to {0} cannot be opened")]
    Sealed(&'static str),
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    #[error("the server ended the stream of maps")]
    Ended,
}

impl ManagementError {
    /// The status code of a refusal.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Channel(_)
            | Self::TimedOut { .. }
            | Self::ServerKey
            | Self::Sealed(_)
            | Self::Invalid(_)
            | Self::Ended => None,
        }
    }

    /// What the server said, or what happened.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Refused { message, .. } if !message.is_empty() => message.clone(),
            other => other.to_string(),
        }
    }

    /// True when the connection itself is fine and can be used again.
    pub(crate) fn leaves_channel_usable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => !matches!(
                code,
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
            ),
            Self::Invalid(_) | Self::Sealed(_) => true,
            Self::Channel(_) | Self::TimedOut { .. } | Self::ServerKey | Self::Ended => false,
        }
    }
}

/// A connection to the management server.
#[derive(Debug, Clone)]
pub(crate) struct Management {
    client: ManagementServiceClient<Channel>,
    ours: WgPrivateKey,
}

impl Management {
    /// Connects.
    pub(crate) async fn connect(
        url: &str,
        trust: &Trust,
        ours: &WgPrivateKey,
    ) -> Result<Self, ManagementError> {
        let channel = channel::connect(url, trust).await?;
        Ok(Self {
            client: ManagementServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            ours: ours.clone(),
        })
    }

    /// Asks who we may be.
    pub(crate) async fn login(&mut self, request: LoginRequest) -> Result<LoginResponse, ManagementError> {
        const CALL: &str = "Login";
        let envelope = self.envelope().await?;
        let message = self.seal(&envelope, &pb::LoginRequest::from(request));
        let reply = call(CALL, CALL_TIMEOUT, self.client.login(message)).await?;
        let reply: pb::LoginResponse = open(CALL, &envelope, &reply.into_inner())?;
        Ok(reply.try_into()?)
    }

    /// Asks for maps.
    pub(crate) async fn sync(&mut self, meta: SystemMeta) -> Result<Maps, ManagementError> {
        const CALL: &str = "Sync";
        let envelope = self.envelope().await?;
        let request = pb::SyncRequest {
            meta: Some(meta.into()),
        };
        let message = self.seal(&envelope, &request);
        let stream = call(CALL, CALL_TIMEOUT, self.client.sync(message))
            .await?
            .into_inner();
        Ok(Maps { stream, envelope })
    }

    /// Tells news about the machine.
    pub(crate) async fn sync_meta(&mut self, meta: SystemMeta) -> Result<(), ManagementError> {
        let envelope = self.envelope().await?;
        let request = pb::SyncMetaRequest {
            meta: Some(meta.into()),
        };
        let message = self.seal(&envelope, &request);
        call("SyncMeta", CALL_TIMEOUT, self.client.sync_meta(message)).await?;
        Ok(())
    }

    /// The server's key changes when it restarts, so it is asked for before every attempt.
    async fn envelope(&mut self) -> Result<Envelope, ManagementError> {
        let reply = call(
            "GetServerKey",
            KEY_TIMEOUT,
            self.client.get_server_key(pb::Empty {}),
        )
        .await?;
        let key = reply
            .into_inner()
            .key
            .parse()
            .map_err(|_| ManagementError::ServerKey)?;
        Ok(Envelope::new(&self.ours, &key))
    }

    fn seal(&self, envelope: &Envelope, message: &impl Message) -> pb::EncryptedMessage {
        pb::EncryptedMessage {
            wg_pub_key: self.ours.public().to_string(),
            body: envelope.seal(&message.encode_to_vec()).into(),
            version: 0,
        }
    }
}

/// A stream of maps.
#[derive(Debug)]
pub(crate) struct Maps {
    stream: Streaming<pb::EncryptedMessage>,
    envelope: Envelope,
}

impl Maps {
    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<SyncUpdate, ManagementError> {
        const CALL: &str = "Sync";
        let message = self
            .stream
            .message()
            .await
            .map_err(|status| refused(CALL, &status))?;
        let message = message.ok_or(ManagementError::Ended)?;
        let update: pb::SyncResponse = open(CALL, &self.envelope, &message)?;
        Ok(update.try_into()?)
    }
}

fn open<M: Message + Default>(
    call: &'static str,
    envelope: &Envelope,
    message: &pb::EncryptedMessage,
) -> Result<M, ManagementError> {
    let clear = envelope
        .open(&message.body)
        .map_err(|_| ManagementError::Sealed(call))?;
    M::decode(clear.as_slice()).map_err(|error| InvalidMessage::new("body", error.to_string()).into())
}

async fn call<T>(
    name: &'static str,
    after: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, ManagementError> {
    match tokio::time::timeout(after, call).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(status)) => Err(refused(name, &status)),
        Err(_) => Err(ManagementError::TimedOut { call: name, after }),
    }
}

fn refused(call: &'static str, status: &Status) -> ManagementError {
    ManagementError::Refused {
        call,
        code: status.code(),
        message: status.message().to_owned(),
    }
}
