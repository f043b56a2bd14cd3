//! The service peers speak to: login, the stream of network maps, meta data, logout.
//!
//! Bodies are sealed with the peer's WireGuard key and a key of this process ([`ServerKey`]); opening one
//! proves who sent it. Codes are part of the protocol: peers register on 7 (permission denied) and on
//! nothing else, stop for good on 7 at Sync, and come back on 14.

mod authenticate;
mod limits;
mod sealed;
mod servers;
mod sync;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use futures::stream::BoxStream;
use meshgate_proto::network_map::{LoginRequest, LoginResponse, SessionExpiry};
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::management_service_server::{ManagementService, ManagementServiceServer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::finish::finish;
use crate::network_map::peer_config;
use crate::peers::registration::{Login, login, update_meta};
use crate::reconcile::network_maps::{NetworkMaps, model_network, model_peer, model_settings};
use crate::state::State;
use authenticate::{caller_address, login_status};
use limits::CallLimits;

pub use sealed::ServerKey;
pub use servers::{BadExposedAddress, MeshServers};
pub(crate) use wire::WireMap;

/// Largest message to a peer: a map of a large account. What peers send is bounded by `MAX_BODY`.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Room for the envelope around a body: two keys and the field heads.
const ENVELOPE: usize = 1024;

/// What the service needs. Cheap to clone.
#[derive(Clone)]
pub struct PeerSurface {
    /// What all surfaces share.
    pub state: Arc<State>,
    /// Network maps.
    pub maps: NetworkMaps,
    /// Servers told to peers.
    pub servers: Arc<MeshServers>,
    /// Key of the boxes.
    pub key: Arc<ServerKey>,
    /// Ends all streams.
    pub stopping: CancellationToken,
    /// Tasks that write down that a stream has ended.
    pub tracker: TaskTracker,
}

impl std::fmt::Debug for PeerSurface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerSurface").finish_non_exhaustive()
    }
}

/// The service, ready to be put on a server.
pub fn server(surface: PeerSurface) -> ManagementServiceServer<PeerService> {
    let service = PeerService {
        surface,
        limits: CallLimits::new(),
    };
    ManagementServiceServer::new(service)
        .max_decoding_message_size(sealed::MAX_BODY + ENVELOPE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// The generated trait over [`PeerSurface`].
#[derive(Debug)]
pub struct PeerService {
    surface: PeerSurface,
    limits: CallLimits,
}

type Sealed = pb::EncryptedMessage;
type SealedStream = BoxStream<'static, Result<Sealed, Status>>;

#[tonic::async_trait]
impl ManagementService for PeerService {
    type SyncStream = SealedStream;
    type JobStream = SealedStream;

    async fn get_server_key(&self, _: Request<pb::Empty>) -> Result<Response<pb::ServerKeyResponse>, Status> {
        Ok(Response::new(pb::ServerKeyResponse {
            key: self.surface.key.public_text().to_owned(),
            expires_at: None,
            version: 0,
        }))
    }

    async fn is_healthy(&self, _: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        Ok(Response::new(pb::Empty {}))
    }

    async fn login(&self, request: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        let address = caller_address(&request);
        let opened = self.surface.key.open::<pb::LoginRequest>(request.get_ref())?;
        self.limits.login(opened.key)?;
        if opened.message.meta.is_none() {
            return Err(Status::failed_precondition("peer system meta has to be provided"));
        }
        let wanted =
            LoginRequest::try_from(opened.message).map_err(|e| Status::invalid_argument(e.to_string()))?;
        if wanted.wg_public_key.is_some_and(|key| key != opened.key) {
            return Err(Status::invalid_argument(
                "message names another key than it is sealed with",
            ));
        }
        let (state, key) = (Arc::clone(&self.surface.state), opened.key);
        let member = finish(&self.surface.tracker, async move {
            let asked = Login {
                key,
                meta: &wanted.meta,
                ssh_key: &wanted.ssh_public_key,
                setup_key: wanted.setup_key.as_ref(),
                dns_labels: &wanted.dns_labels,
                address,
            };
            login(&state, asked).await.map_err(|error| login_status(&error))
        })
        .await?;
        let network = model_network(&member.account, &self.surface.state.config.dns_domain)
            .map_err(|error| super::status::internal(&error))?;
        let response = LoginResponse {
            servers: self.surface.servers.now(),
            peer: peer_config(
                &network,
                model_settings(&member.account),
                &model_peer(member.peer),
            ),
            checks: Vec::new(),
            session: SessionExpiry::Never,
        };
        Ok(Response::new(
            self.surface
                .key
                .seal(&opened.envelope, &pb::LoginResponse::from(response)),
        ))
    }

    async fn sync(&self, request: Request<Sealed>) -> Result<Response<SealedStream>, Status> {
        let address = caller_address(&request);
        let opened = self.surface.key.open::<pb::SyncRequest>(request.get_ref())?;
        self.limits.sync(opened.key)?;
        sync::stream(&self.surface, opened, address)
            .await
            .map(Response::new)
    }

    async fn sync_meta(&self, request: Request<Sealed>) -> Result<Response<pb::Empty>, Status> {
        let opened = self.surface.key.open::<pb::SyncMetaRequest>(request.get_ref())?;
        self.limits.sync(opened.key)?;
        let Some(meta) = opened.message.meta else {
            return Err(Status::failed_precondition("peer system meta has to be provided"));
        };
        let (state, key) = (Arc::clone(&self.surface.state), opened.key);
        let known = finish(&self.surface.tracker, async move {
            let updated = update_meta(&state, &key, &meta.into(), None).await;
            updated.map_err(|error| login_status(&error))
        });
        known
            .await?
            .ok_or_else(|| Status::permission_denied("peer is not registered"))?;
        Ok(Response::new(pb::Empty {}))
    }

    async fn logout(&self, request: Request<Sealed>) -> Result<Response<pb::Empty>, Status> {
        let opened = self.surface.key.open::<pb::Empty>(request.get_ref())?;
        self.limits.login(opened.key)?;
        let (state, key) = (Arc::clone(&self.surface.state), opened.key);
        finish(&self.surface.tracker, async move {
            let done = crate::peers::registration::logout(&state, &key).await;
            done.map_err(|error| super::status::status(&error))
        })
        .await?;
        Ok(Response::new(pb::Empty {}))
    }

    async fn job(&self, _: Request<Streaming<Sealed>>) -> Result<Response<SealedStream>, Status> {
        Err(Status::unimplemented("jobs are not offered"))
    }

    async fn get_device_authorization_flow(&self, _: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        Err(Status::not_found("no device authorization flow is configured"))
    }

    async fn get_pkce_authorization_flow(&self, _: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        Err(Status::not_found("no PKCE authorization flow is configured"))
    }

    async fn extend_auth_session(&self, _: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        Err(Status::unimplemented("sessions of people are not offered"))
    }

    async fn create_expose(&self, _: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        Err(Status::unimplemented(
            "exposing services from peers is not offered",
        ))
    }

    async fn renew_expose(&self, _: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        Err(Status::unimplemented(
            "exposing services from peers is not offered",
        ))
    }

    async fn stop_expose(&self, _: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        Err(Status::unimplemented(
            "exposing services from peers is not offered",
        ))
    }
}
