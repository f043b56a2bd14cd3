//! Logins with what a service shares out: password, PIN, header secret.
//!
//! An unknown service and a scheme that is off are answered without any work: proxies know both from their
//! mappings, so there is nothing to hide from them.

use std::net::IpAddr;

use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::authenticate_request::Request as Presented;
use meshgate_proto::{AccountId, Secret, ServiceId};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::{ProxySide, internal};
use crate::grpc::proxy_auth::ProxyCaller;
use crate::password::{PasswordError, PasswordFault, PasswordHash};
use crate::session::{LoginMethod, Session, SessionKey};
use crate::store::service_records::{ServiceAuth, ServiceRow, StoredSecret};

/// Metadata in which a proxy may name the client whose secret it passes on.
pub(super) const CLIENT_ADDRESS: &str = "meshgate-client-address";

/// The client whose secret a call passes on, if the proxy says so.
pub(super) fn client_of(metadata: &MetadataMap) -> Option<IpAddr> {
    metadata.get(CLIENT_ADDRESS)?.to_str().ok()?.parse().ok()
}

/// Compares a secret; when it is right, the answer carries a session token.
pub(super) async fn authenticate(
    side: &ProxySide,
    caller: &ProxyCaller,
    source: Option<IpAddr>,
    message: pb::AuthenticateRequest,
) -> Result<pb::AuthenticateResponse, Status> {
    let scope = caller.scope_of(&AccountId::new(message.account_id))?;
    let id = ServiceId::new(message.id);
    let record = side.state.store.service(&scope, &id).await.map_err(internal)?;
    let served = record.filter(|record| record.service.enabled && !record.service.terminated);
    let service = served
        .ok_or_else(|| Status::failed_precondition("service not found"))?
        .service;
    let Some(attempt) = message
        .request
        .and_then(|presented| attempt(&service.auth, presented))
    else {
        return Ok(pb::AuthenticateResponse::default());
    };
    let method = attempt.method;
    if !compare(side, &service, source, attempt).await? {
        return Ok(pb::AuthenticateResponse::default());
    }
    let session_token = sign(side, &service, method)?;
    Ok(pb::AuthenticateResponse {
        success: true,
        session_token,
    })
}

/// A secret, and the hashes of which it has to match one.
struct Attempt {
    method: LoginMethod,
    secret: Secret<String>,
    hashes: Vec<PasswordHash>,
}

/// `None` when no scheme that is on takes this kind of secret.
fn attempt(auth: &ServiceAuth, presented: Presented) -> Option<Attempt> {
    let enabled = |scheme: &Option<StoredSecret>| {
        let hash = scheme
            .as_ref()
            .filter(|scheme| scheme.enabled && !scheme.hash.is_empty());
        hash.map(|scheme| PasswordHash::new(&*scheme.hash))
            .into_iter()
            .collect::<Vec<_>>()
    };
    let (method, secret, hashes) = match presented {
        Presented::Password(request) => (LoginMethod::Password, request.password, enabled(&auth.password)),
        Presented::Pin(request) => (LoginMethod::Pin, request.pin, enabled(&auth.pin)),
        Presented::HeaderAuth(request) => {
            let named = auth.headers.iter().filter(|header| {
                header.enabled
                    && !header.hash.is_empty()
                    && header.header.eq_ignore_ascii_case(&request.header_name)
            });
            let hashes = named.map(|header| PasswordHash::new(&*header.hash)).collect();
            (LoginMethod::Header, request.header_value, hashes)
        }
    };
    let secret = Secret::new(secret);
    (!hashes.is_empty()).then_some(Attempt {
        method,
        secret,
        hashes,
    })
}

async fn compare(
    side: &ProxySide,
    service: &ServiceRow,
    source: Option<IpAddr>,
    attempt: Attempt,
) -> Result<bool, Status> {
    let now = side.state.clock.now();
    let guess = side.guesses.count(&service.id, source, now);
    let guess = guess.map_err(|limit| Status::resource_exhausted(limit.to_string()))?;
    match side
        .passwords
        .verify(service.id.as_str(), attempt.secret, attempt.hashes)
        .await
    {
        Ok(true) => {
            side.guesses.give_back(guess);
            Ok(true)
        }
        Ok(false) | Err(PasswordError::Failed(PasswordFault::TooLong)) => Ok(false),
        Err(PasswordError::Busy) => {
            side.guesses.give_back(guess);
            Err(Status::resource_exhausted(
                "too many password checks are waiting; try again",
            ))
        }
        Err(PasswordError::Failed(fault @ (PasswordFault::UnusableHash | PasswordFault::Closed))) => {
            side.guesses.give_back(guess);
            tracing::error!(service.id = %service.id, error = %fault, "A secret could not be compared");
            Err(Status::internal("secret cannot be compared"))
        }
    }
}

fn sign(side: &ProxySide, service: &ServiceRow, method: LoginMethod) -> Result<String, Status> {
    let session = Session::shared(method).ok_or_else(|| Status::internal("method names somebody"))?;
    let key = session_key(side, service)?;
    Ok(key.sign(&session, &service.domain, side.state.clock.now()))
}

/// The key with which the service's sessions are signed.
pub(super) fn session_key(side: &ProxySide, service: &ServiceRow) -> Result<SessionKey, Status> {
    let unusable = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(service.id = %service.id, error, "Session key of a service is unusable");
        Status::internal("session key of the service is unusable")
    };
    let text = side
        .state
        .at_rest
        .unseal(&service.session_private_key)
        .map_err(|error| unusable(&error))?;
    SessionKey::from_text(&text).map_err(|error| unusable(&error))
}
