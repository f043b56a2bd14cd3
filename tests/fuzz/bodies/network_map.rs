//! Network maps on their way into force: the same map twice changes nothing the second time.

use meshgate_proto::WgPublicKey;
use meshgate_proto::network_map::SyncUpdate;
use meshgate_proto::pb::management::SyncResponse;
use prost::Message;

use super::network_map::{ClientRoutes, MapState};

/// The first byte says whether routes are used, the rest is a message of the stream of maps.
pub(super) fn run(data: &[u8]) {
    let Some((&routes, bytes)) = data.split_first() else {
        return;
    };
    let Some(Ok(update)) = SyncResponse::decode(bytes).ok().map(SyncUpdate::try_from) else {
        return;
    };
    let Some(map) = update.map else {
        return;
    };
    let routes = if routes % 2 == 0 {
        ClientRoutes::Ignored
    } else {
        ClientRoutes::Used
    };
    let mut state = MapState::new(WgPublicKey::from_bytes([7; 32]), routes);
    let first = state.apply(map.clone()).expect("nothing is in force yet");
    assert!(first.removals.is_empty());
    let serial = state.serial();
    let second = state.apply(map).expect("the same serial number may come again");
    assert!(
        second.upserts.is_empty() && second.removals.is_empty(),
        "{second:?}"
    );
    assert_eq!(second.firewall, first.firewall);
    assert_eq!(state.serial(), serial);
}
