//! Maps in the form they are sent, and a fingerprint to tell them apart.

use std::hash::{DefaultHasher, Hasher as _};

use bytes::Bytes;
use meshgate_proto::network_map::{NetworkMap, Servers, SessionExpiry, SyncUpdate};
use meshgate_proto::pb::management as pb;
use prost::Message as _;

/// A map as it goes over the wire, but for its serial.
#[derive(Debug)]
pub(crate) struct WireMap {
    message: pb::SyncResponse,
    fingerprint: u64,
}

impl WireMap {
    /// Writes a map down.
    pub(crate) fn new(map: NetworkMap) -> Self {
        let session = if map.peer.is_some() {
            SessionExpiry::Never
        } else {
            SessionExpiry::Unknown
        };
        let update = SyncUpdate {
            servers: None,
            map: Some(NetworkMap { serial: 0, ..map }),
            checks: Vec::new(),
            session,
        };
        let message = pb::SyncResponse::from(update);
        let mut hasher = DefaultHasher::new();
        hasher.write(&message.encode_to_vec());
        Self {
            fingerprint: hasher.finish(),
            message,
        }
    }

    /// Equal for equal maps, whatever their serial.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The message with its serial.
    pub(crate) fn encode(mut self, serial: u64) -> Bytes {
        if let Some(map) = &mut self.message.network_map {
            map.serial = serial;
        }
        self.message.encode_to_vec().into()
    }
}

/// Puts servers in front of an encoded map: two messages one after the other are read as one.
pub(super) fn with_servers(servers: Servers, map: &[u8]) -> Vec<u8> {
    let mut out = servers_only(servers);
    out.extend_from_slice(map);
    out
}

/// A message that tells of servers and nothing else.
pub(super) fn servers_only(servers: Servers) -> Vec<u8> {
    let message = pb::SyncResponse {
        netbird_config: Some(servers.into()),
        ..pb::SyncResponse::default()
    };
    message.encode_to_vec()
}
