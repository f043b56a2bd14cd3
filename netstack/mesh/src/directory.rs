//! Who is who: peers by relay name, by overlay address and by key, for tasks that must be quick.

use std::net::IpAddr;

use meshgate_netstack::{Cidr, PublicKey};
use meshgate_proto::WgPublicKey;
use meshgate_proto::relay::PeerHash;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use crate::network_map::MapPeer;

/// Peers of the map in force. One writer (the engine), many readers.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    senders: FxHashMap<PeerHash, Entry>,
    peers: FxHashMap<WgPublicKey, MapPeer>,
    hosts: FxHashMap<IpAddr, WgPublicKey>,
    networks: Vec<(Cidr, WgPublicKey)>,
}

#[derive(Debug)]
struct Entry {
    key: WgPublicKey,
    net_key: PublicKey,
    state: PeerState,
}

/// What others need to know of a peer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PeerState {
    /// Its datagrams go straight to the netstack.
    pub(crate) open: bool,
    /// A handshake is in force.
    pub(crate) connected: bool,
}

/// Who sent a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A peer with an open path.
    Open(PublicKey),
    /// A peer without one.
    Closed(WgPublicKey),
    /// Nobody of the map.
    Stranger,
}

impl Directory {
    /// Finds the sender of a relay frame.
    pub(crate) fn sender(&self, hash: &PeerHash) -> Sender {
        match self.tables.read().senders.get(hash) {
            Some(entry) if entry.state.open => Sender::Open(entry.net_key),
            Some(entry) => Sender::Closed(entry.key),
            None => Sender::Stranger,
        }
    }

    /// Finds the peer that an overlay address leads to: the longest prefix wins.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<WgPublicKey> {
        let tables = self.tables.read();
        if let Some(key) = tables.hosts.get(&address) {
            return Some(*key);
        }
        let covering = tables
            .networks
            .iter()
            .filter(|(network, _)| network.contains(address));
        covering
            .max_by_key(|(network, _)| network.prefix())
            .map(|(_, key)| *key)
    }

    /// How a peer's connection stands.
    pub(crate) fn state(&self, key: &WgPublicKey) -> PeerState {
        let tables = self.tables.read();
        tables
            .senders
            .get(&PeerHash::of(key))
            .map(|entry| entry.state)
            .unwrap_or_default()
    }

    /// All peers with the state of their connections.
    pub(crate) fn peers(&self) -> Vec<(MapPeer, PeerState)> {
        let tables = self.tables.read();
        let state = |key| tables.senders.get(&PeerHash::of(key)).map(|entry| entry.state);
        tables
            .peers
            .values()
            .map(|peer| (peer.clone(), state(&peer.key).unwrap_or_default()))
            .collect()
    }

    /// One peer with the state of its connection.
    pub(crate) fn peer(&self, key: &WgPublicKey) -> Option<(MapPeer, PeerState)> {
        let tables = self.tables.read();
        let state = tables.senders.get(&PeerHash::of(key)).map(|entry| entry.state);
        tables
            .peers
            .get(key)
            .map(|peer| (peer.clone(), state.unwrap_or_default()))
    }

    /// Writes how a peer's connection stands.
    pub(crate) fn set_state(&self, hash: &PeerHash, state: PeerState) {
        if let Some(entry) = self.tables.write().senders.get_mut(hash) {
            entry.state = state;
        }
    }

    /// Adds a peer or changes it; the state of its connection stays.
    pub(crate) fn upsert(&self, peer: MapPeer) {
        let mut tables = self.tables.write();
        tables.forget_addresses(&peer.key);
        for cidr in &peer.allowed_ips {
            if *cidr == Cidr::host(cidr.address()) {
                tables.hosts.insert(cidr.address(), peer.key);
            } else {
                tables.networks.push((*cidr, peer.key));
            }
        }
        tables
            .senders
            .entry(PeerHash::of(&peer.key))
            .or_insert_with(|| Entry {
                key: peer.key,
                net_key: net_key(&peer.key),
                state: PeerState::default(),
            });
        tables.peers.insert(peer.key, peer);
    }

    /// Removes a peer.
    pub(crate) fn remove(&self, key: &WgPublicKey) {
        let mut tables = self.tables.write();
        tables.forget_addresses(key);
        tables.senders.remove(&PeerHash::of(key));
        tables.peers.remove(key);
    }
}

impl Tables {
    fn forget_addresses(&mut self, key: &WgPublicKey) {
        let Some(peer) = self.peers.get(key) else { return };
        for cidr in &peer.allowed_ips {
            if self.hosts.get(&cidr.address()) == Some(key) {
                self.hosts.remove(&cidr.address());
            }
        }
        self.networks.retain(|(_, owner)| owner != key);
    }
}

/// The netstack's form of a key.
pub(crate) fn net_key(key: &WgPublicKey) -> PublicKey {
    PublicKey::from_bytes(*key.as_bytes())
}

/// The wire's form of a key.
pub(crate) fn wire_key(key: &PublicKey) -> WgPublicKey {
    WgPublicKey::from_bytes(*key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_owners_by_longest_prefix() {
        let directory = Directory::default();
        directory.upsert(peer(1, &["100.64.0.1/32", "10.0.0.0/8"]));
        directory.upsert(peer(2, &["100.64.0.2/32", "10.1.0.0/16"]));

        assert_eq!(owner(&directory, "100.64.0.1"), Some(key(1)));
        assert_eq!(owner(&directory, "10.1.2.3"), Some(key(2)));
        assert_eq!(owner(&directory, "10.2.2.3"), Some(key(1)));
        assert_eq!(owner(&directory, "100.64.0.3"), None);
    }

    #[test]
    fn a_changed_peer_loses_its_old_addresses_and_keeps_its_state() {
        let directory = Directory::default();
        directory.upsert(peer(1, &["100.64.0.1/32"]));
        let state = PeerState {
            open: true,
            connected: true,
        };
        directory.set_state(&PeerHash::of(&key(1)), state);

        directory.upsert(peer(1, &["100.64.0.9/32"]));

        assert_eq!(owner(&directory, "100.64.0.1"), None);
        assert_eq!(owner(&directory, "100.64.0.9"), Some(key(1)));
        assert_eq!(directory.state(&key(1)), state);
    }

    #[test]
    fn a_removed_peer_is_a_stranger() {
        let directory = Directory::default();
        directory.upsert(peer(1, &["100.64.0.1/32", "10.0.0.0/8"]));

        directory.remove(&key(1));

        assert_eq!(directory.sender(&PeerHash::of(&key(1))), Sender::Stranger);
        assert_eq!(owner(&directory, "10.0.0.1"), None);
    }

    fn owner(directory: &Directory, address: &str) -> Option<WgPublicKey> {
        directory.owner(address.parse().unwrap())
    }

    fn key(byte: u8) -> WgPublicKey {
        WgPublicKey::from_bytes([byte; 32])
    }

    fn peer(byte: u8, allowed: &[&str]) -> MapPeer {
        MapPeer {
            key: key(byte),
            fqdn: format!("peer{byte}.mesh"),
            addresses: Vec::new(),
            allowed_ips: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }
}
