//! Management as the one that checks secrets and registers peers.

use std::time::Duration;

use async_trait::async_trait;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::authenticate_request::Request as Presented;
use meshgate_proto::{AccountId, Secret, ServiceId, WgPublicKey};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request};

use super::client::ManagementClient;
use crate::login::{Authenticator, CheckError, Credential, Shown};
use crate::tunnels::{RegisterError, Registrar};

/// Longest wait for the check of a secret.
const AUTHENTICATE: Duration = Duration::from_secs(10);
/// Longest wait for the registration of a peer.
const CREATE_PEER: Duration = Duration::from_secs(30);

/// Metadata with the address of the client whose secret is checked: management slows down guessing by it.
const CLIENT_ADDRESS: &str = "meshgate-client-address";

#[async_trait]
impl Authenticator for ManagementClient {
    async fn authenticate(
        &self,
        service: &ServiceId,
        account: &AccountId,
        credential: Credential,
    ) -> Result<Option<Secret<String>>, CheckError> {
        let Credential { client_ip, shown } = credential;
        let presented = match shown {
            Shown::Password(password) => Presented::Password(pb::PasswordRequest {
                password: password.expose().clone(),
            }),
            Shown::Pin(pin) => Presented::Pin(pb::PinRequest {
                pin: pin.expose().clone(),
            }),
            Shown::Header { name, value } => Presented::HeaderAuth(pb::HeaderAuthRequest {
                header_value: value.expose().clone(),
                header_name: name,
            }),
        };
        let request = pb::AuthenticateRequest {
            id: service.as_str().to_owned(),
            account_id: account.as_str().to_owned(),
            request: Some(presented),
        };
        let mut request = Request::new(request);
        if let Ok(address) = MetadataValue::<Ascii>::try_from(client_ip.to_string()) {
            request.metadata_mut().insert(CLIENT_ADDRESS, address);
        }
        let mut calls = self.calls();
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
            cluster: self.cluster().to_string(),
        };
        let mut calls = self.calls();
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
