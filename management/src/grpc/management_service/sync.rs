//! The stream of network maps of one peer.

use std::net::IpAddr;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use meshgate_proto::envelope::Envelope;
use meshgate_proto::pb::management as pb;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::authenticate::login_status;
use super::sealed::{Opened, ServerKey};
use super::servers::{MeshServers, RELAY_TOKEN_RENEWAL};
use super::wire::{servers_only, with_servers};
use super::{PeerSurface, Sealed, SealedStream};
use crate::grpc::finish::finish;
use crate::peers::presence::Presence;
use crate::peers::registration::{member, update_meta};
use crate::reconcile::network_maps::{AttachError, MapStream, PeerUpdate};

/// Opens the stream: first message with servers and map, then maps as they change.
pub(super) async fn stream(
    surface: &PeerSurface,
    opened: Opened<pb::SyncRequest>,
    address: Option<IpAddr>,
) -> Result<SealedStream, Status> {
    let unknown = || Status::permission_denied("peer is not registered");
    let (state, key, meta) = (Arc::clone(&surface.state), opened.key, opened.message.meta);
    let member = finish(&surface.tracker, async move {
        let member = match meta {
            Some(meta) => update_meta(&state, &key, &meta.into(), None).await,
            None => member(&state, &key).await,
        };
        member.map_err(|error| login_status(&error))
    });
    let member = member.await?.ok_or_else(unknown)?;
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
    let session = Session {
        maps,
        envelope: opened.envelope,
        key: Arc::clone(&surface.key),
        servers: Arc::clone(&surface.servers),
        stopping: surface.stopping.clone(),
        renewal: renewal(),
        phase: Phase::First,
    };
    // The presence ends with the stream, whichever side ends it.
    Ok(
        stream::unfold((session, presence), |(mut session, presence)| async move {
            let item = session.next().await?;
            Some((item, (session, presence)))
        })
        .boxed(),
    )
}

/// Ticks when the relay token the peer has is due for renewal.
fn renewal() -> Interval {
    let mut renewal = interval_at(Instant::now() + RELAY_TOKEN_RENEWAL, RELAY_TOKEN_RENEWAL);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewal
}

struct Session {
    maps: MapStream,
    envelope: Envelope,
    key: Arc<ServerKey>,
    servers: Arc<MeshServers>,
    stopping: CancellationToken,
    renewal: Interval,
    phase: Phase,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshgate_proto::relay::RelayKey;
    use meshgate_proto::{ManualClock, Secret, UnixTime, WgPrivateKey};
    use prost::Message as _;

    use super::*;
    use crate::reconcile::network_maps::map_stream;

    #[tokio::test(start_paused = true)]
    async fn a_new_relay_token_is_pushed_alone_after_three_quarters_of_its_life() {
        let (sink, maps) = map_stream();
        sink.put(PeerUpdate::Map(
            pb::SyncResponse::default().encode_to_vec().into(),
        ));
        let (mut session, open) = session(maps);
        let start = Instant::now();

        let first = open(session.next().await);
        let second = open(session.next().await);

        assert!(first.netbird_config.is_some());
        assert_eq!(start.elapsed(), Duration::from_hours(9));
        assert!(second.netbird_config.unwrap().relay.is_some());
        assert!(second.network_map.is_none() && second.peer_config.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_was_away_from_its_stream_gets_one_map_the_newest() {
        let (sink, maps) = map_stream();
        let (mut session, open) = session(maps);
        let map = |serial| {
            let message = pb::SyncResponse {
                network_map: Some(pb::NetworkMap {
                    serial,
                    ..pb::NetworkMap::default()
                }),
                ..pb::SyncResponse::default()
            };
            PeerUpdate::Map(message.encode_to_vec().into())
        };

        sink.put(map(1));
        open(session.next().await);
        for serial in 2..50 {
            sink.put(map(serial));
        }

        assert_eq!(open(session.next().await).network_map.unwrap().serial, 49);
        drop(sink);
        assert!(session.next().await.unwrap().is_err(), "the publisher is gone");
        assert!(session.next().await.is_none());
    }

    type Opener = Box<dyn Fn(Option<Result<Sealed, Status>>) -> pb::SyncResponse>;

    fn session(maps: MapStream) -> (Session, Opener) {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_893_456_000)));
        let relay_key = RelayKey::new(&Secret::from("secret"));
        let exposed = "http://10.0.0.1:8080".parse().unwrap();
        let key = Arc::new(ServerKey::generate());
        let peer = WgPrivateKey::generate();
        let server = key.public_text().parse().unwrap();
        let theirs = Envelope::new(&peer, &server);
        let session = Session {
            maps,
            envelope: key.envelope(&peer.public()),
            servers: Arc::new(MeshServers::new(&exposed, Vec::new(), relay_key, clock).unwrap()),
            key,
            stopping: CancellationToken::new(),
            renewal: renewal(),
            phase: Phase::First,
        };
        let open = move |item: Option<Result<Sealed, Status>>| {
            let sealed = item.unwrap().unwrap();
            let clear = theirs.open(&sealed.body).unwrap();
            pb::SyncResponse::decode(clear.as_slice()).unwrap()
        };
        (session, Box::new(open))
    }
}
