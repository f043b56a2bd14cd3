//! Puts the map of one peer together.

use std::net::IpAddr;

use meshgate_proto::network_map::{DnsConfig, Firewall, NetworkMap, OverlayV6, PeerConfig, RemotePeer};
use meshgate_proto::{Cidr, PeerId};

use super::dns::dns_config;
use super::model::{AccountModel, MapSettings, Network, PeerModel};
use super::rules::reach;

/// Port of DNS forwarders since 0.59, and before.
const FORWARDER_PORTS: (i64, i64) = (22054, 5353);
/// Word that tells a peer not to update itself.
const NO_UPDATE: &str = "disabled";

/// The map of a peer; `None` when the account does not have it.
pub fn network_map(model: &AccountModel, peer: &PeerId) -> Option<NetworkMap> {
    let me = model.peers.get(peer)?;
    let reach = reach(model, me);
    let dns = dns_config(model, me, &reach);
    let remote_peers = reach
        .neighbours
        .values()
        .map(|peer| remote_peer(&model.network, me, peer))
        .collect();
    Some(NetworkMap {
        serial: model.network.serial,
        peer: Some(peer_config(&model.network, model.settings, me)),
        remote_peers,
        offline_peers: Vec::new(),
        firewall: Firewall::Rules(reach.rules),
        dns,
        routes: Vec::new(),
        route_firewall: Vec::new(),
        route_firewall_is_empty: true,
        ssh_user_id_claim: "sub".to_owned(),
        skipped: Vec::new(),
    })
}

/// The last map of a peer that was deleted: nobody, nothing.
pub fn removed_map(model: &AccountModel) -> NetworkMap {
    NetworkMap {
        serial: model.network.serial,
        peer: None,
        remote_peers: Vec::new(),
        offline_peers: Vec::new(),
        firewall: Firewall::Rules(Vec::new()),
        dns: DnsConfig {
            forwarder_port: forwarder_port(model.peers.values()),
            ..DnsConfig::default()
        },
        routes: Vec::new(),
        route_firewall: Vec::new(),
        route_firewall_is_empty: false,
        ssh_user_id_claim: String::new(),
        skipped: Vec::new(),
    }
}

/// What a peer is told about itself, at login and in every map in the same words: another address text
/// makes a peer start anew.
pub fn peer_config(network: &Network, settings: MapSettings, peer: &PeerModel) -> PeerConfig {
    PeerConfig {
        address: peer.v4,
        prefix: network.v4_prefix,
        address_v6: peer.v6.map(|address| OverlayV6 {
            address,
            prefix: network.v6_prefix,
        }),
        fqdn: peer.fqdn(network),
        routing_peer_dns: settings.routing_peer_dns,
        lazy_connections: settings.lazy_connections,
        mtu: 0,
        ssh_enabled: peer.ssh_enabled,
        auto_update: NO_UPDATE.to_owned(),
    }
}

/// Port on which routing peers answer DNS: the new one once nobody is too old for it. Peers that have not
/// logged in yet have no version and no say.
pub fn forwarder_port<'a>(peers: impl IntoIterator<Item = &'a PeerModel>) -> i64 {
    let all_new = peers
        .into_iter()
        .filter(|peer| !peer.agent_version.is_empty())
        .all(|peer| knows_new_forwarder_port(&peer.agent_version));
    if all_new {
        FORWARDER_PORTS.0
    } else {
        FORWARDER_PORTS.1
    }
}

fn knows_new_forwarder_port(version: &str) -> bool {
    let version = version.strip_prefix('v').unwrap_or(version);
    if ["dev", "ci-"].iter().any(|prefix| version.starts_with(prefix)) {
        return true;
    }
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(minor))) => minor >= 59,
        (Some(Ok(major)), _) => major > 0,
        _ => false,
    }
}

fn remote_peer(network: &Network, me: &PeerModel, peer: &PeerModel) -> RemotePeer {
    let v6 = peer.v6.filter(|_| me.v6.is_some()).map(IpAddr::V6);
    RemotePeer {
        key: peer.key,
        allowed_ips: std::iter::once(IpAddr::V4(peer.v4))
            .chain(v6)
            .map(Cidr::host)
            .collect(),
        fqdn: peer.fqdn(network),
        ssh_public_key: peer.ssh_key.clone(),
        agent_version: peer.agent_version.clone(),
    }
}
