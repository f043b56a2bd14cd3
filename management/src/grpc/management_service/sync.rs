//! The stream of network maps of one peer.

use std::net::IpAddr;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use meshgate_proto::envelope::Envelope;
use meshgate_proto::pb::management as pb;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::authenticate::login_status;
use super::sealed::{Opened, ServerKey};
use super::servers::{MeshServers, RELAY_TOKEN_RENEWAL};
use super::wire::{servers_only, with_servers};
use super::{PeerSurface, Sealed, SealedStream};
use crate::peers::presence::Presence;
use crate::peers::registration::update_meta;
use crate::reconcile::network_maps::{AttachError, MapStream, PeerUpdate};

/// Opens the stream: first message with servers and map, then maps as they change.
pub(super) async fn stream(
    surface: &PeerSurface,
    opened: Opened<pb::SyncRequest>,
    address: Option<IpAddr>,
) -> Result<SealedStream, Status> {
    let unknown = || Status::permission_denied("peer is not registered");
    let meta = opened.message.meta.unwrap_or_default().into();
    let member = update_meta(&surface.state, &opened.key, &meta, None)
        .await
        .map_err(|error| login_status(&error))?
        .ok_or_else(unknown)?;
    let maps = surface
        .maps
        .attach(&member.account.id, &member.peer.id)
        .await
        .map_err(|error| match error {
            AttachError::Unknown => unknown(),
            AttachError::Unavailable => {
                Status::unavailable("network maps are not available, try again later")
            }
        })?;
    let presence = Presence::begin(&surface.state, &surface.tracker, &member.peer, address)
        .await
        .map_err(|error| crate::grpc::status::internal(&error))?;
    let mut renewal = interval_at(
        tokio::time::Instant::now() + RELAY_TOKEN_RENEWAL,
        RELAY_TOKEN_RENEWAL,
    );
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let session = Session {
        maps,
        envelope: opened.envelope,
        key: Arc::clone(&surface.key),
        servers: Arc::clone(&surface.servers),
        stopping: surface.stopping.clone(),
        renewal,
        phase: Phase::First,
        _presence: presence,
    };
    Ok(stream::unfold(session, |mut session| async move {
        let item = session.next().await?;
        Some((item, session))
    })
    .boxed())
}

struct Session {
    maps: MapStream,
    envelope: Envelope,
    key: Arc<ServerKey>,
    servers: Arc<MeshServers>,
    stopping: CancellationToken,
    renewal: Interval,
    phase: Phase,
    _presence: Presence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    First,
    Running,
    Ended,
}

impl Session {
    /// The next message; `None` ends the stream in order.
    async fn next(&mut self) -> Option<Result<Sealed, Status>> {
        if self.phase == Phase::Ended {
            return None;
        }
        let update = tokio::select! {
            biased;
            () = self.stopping.cancelled() => {
                self.phase = Phase::Ended;
                return Some(Err(Status::unavailable("server is shutting down")));
            }
            update = self.maps.next() => update,
            _ = self.renewal.tick() => {
                return Some(Ok(self.seal(&servers_only(self.servers.now()))));
            }
        };
        match update {
            Some(PeerUpdate::Map(map)) if self.phase == Phase::First => {
                self.phase = Phase::Running;
                Some(Ok(self.seal(&with_servers(self.servers.now(), &map))))
            }
            Some(PeerUpdate::Map(map)) => Some(Ok(self.seal(&map))),
            Some(PeerUpdate::Removed(map)) => {
                self.phase = Phase::Ended;
                Some(Ok(self.seal(&map)))
            }
            Some(PeerUpdate::Superseded) => {
                self.phase = Phase::Ended;
                Some(Err(Status::aborted("another stream of this peer has begun")))
            }
            None => {
                self.phase = Phase::Ended;
                Some(Err(Status::unavailable(
                    "network maps are not available, try again later",
                )))
            }
        }
    }

    fn seal(&self, clear: &[u8]) -> Sealed {
        self.key.seal_bytes(&self.envelope, clear)
    }
}
