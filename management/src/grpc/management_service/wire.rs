//! Maps in the form they are sent, and a fingerprint to tell them apart.

use std::hash::{DefaultHasher, Hasher as _};

use bytes::Bytes;
use meshgate_proto::PeerId;
use meshgate_proto::network_map::{NetworkMap, Servers, SessionExpiry, SyncUpdate};
use meshgate_proto::pb::management as pb;
use prost::Message as _;
use tracing::{error, warn};

use super::MAX_MESSAGE;

/// Largest map: the servers and the box come on top.
const LIMIT: usize = MAX_MESSAGE - 64 * 1024;

/// A map as it goes over the wire, but for its serial.
#[derive(Debug)]
pub(crate) struct WireMap {
    encoded: Vec<u8>,
    fingerprint: u64,
}

impl WireMap {
    /// Writes a map down. One that is too large for a message goes without what peers can do without.
    pub(crate) fn new(map: NetworkMap, peer: &PeerId) -> Self {
        Self::within(map, peer, LIMIT)
    }

    fn within(map: NetworkMap, peer: &PeerId, limit: usize) -> Self {
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
        let mut message = pb::SyncResponse::from(update);
        let mut encoded = message.encode_to_vec();
        if encoded.len() > limit {
            let bytes = encoded.len();
            shed(&mut message);
            encoded = message.encode_to_vec();
            if encoded.len() > limit {
                error!(peer.id = %peer, bytes, left = encoded.len(), limit, "Network map is too large to be sent");
            } else {
                warn!(peer.id = %peer, bytes, limit, "Network map is sent without SSH keys and versions of others");
            }
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&encoded);
        Self {
            fingerprint: hasher.finish(),
            encoded,
        }
    }

    /// Equal for equal maps, whatever their serial.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The message with its serial, which comes behind: two messages one after the other are read as one, and
    /// so are the maps in them.
    pub(crate) fn encode(self, serial: u64) -> Bytes {
        let map = pb::NetworkMap {
            serial,
            ..pb::NetworkMap::default()
        };
        let serial = pb::SyncResponse {
            network_map: Some(map),
            ..pb::SyncResponse::default()
        };
        let mut encoded = self.encoded;
        encoded.extend_from_slice(&serial.encode_to_vec());
        encoded.into()
    }
}

/// Takes out what others said of themselves at any length.
fn shed(message: &mut pb::SyncResponse) {
    let Some(map) = &mut message.network_map else {
        return;
    };
    for peer in map.remote_peers.iter_mut().chain(&mut map.offline_peers) {
        peer.agent_version.clear();
        peer.ssh_config = None;
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

#[cfg(test)]
mod tests {
    use meshgate_proto::WgPublicKey;
    use meshgate_proto::network_map::{DnsConfig, Firewall, RemotePeer};

    use super::*;

    #[test]
    fn a_map_that_is_too_large_keeps_what_peers_need() {
        let map = || NetworkMap {
            serial: 0,
            peer: None,
            remote_peers: vec![RemotePeer {
                key: WgPublicKey::from_bytes([7; 32]),
                allowed_ips: Vec::new(),
                fqdn: "a.mesh".to_owned(),
                ssh_public_key: "k".repeat(1000),
                agent_version: "v".repeat(60),
            }],
            offline_peers: Vec::new(),
            firewall: Firewall::default(),
            dns: DnsConfig::default(),
            routes: Vec::new(),
            route_firewall: Vec::new(),
            route_firewall_is_empty: false,
            ssh_user_id_claim: String::new(),
            skipped: Vec::new(),
        };
        let id = PeerId::new("p");
        let bare = pb::SyncResponse::decode(WireMap::within(map(), &id, 500).encode(1)).unwrap();
        let whole = pb::SyncResponse::decode(WireMap::within(map(), &id, 5000).encode(1)).unwrap();

        let sent = |message: pb::SyncResponse| message.network_map.unwrap().remote_peers.remove(0);
        let (bare, whole) = (sent(bare), sent(whole));
        assert!(bare.agent_version.is_empty() && bare.ssh_config.is_none());
        assert_eq!(whole.ssh_config.unwrap().ssh_pub_key.len(), 1000);
        assert_eq!((bare.wg_pub_key, bare.fqdn), (whole.wg_pub_key, whole.fqdn));
    }
}
