//! Names that a peer can look up inside the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use meshgate_proto::network_map::{DnsConfig, DnsRecord, DnsZone};

use super::compute::forwarder_port;
use super::model::{AccountModel, PeerModel};
use super::rules::Reach;

const TYPE_A: i64 = 1;
const TYPE_AAAA: i64 = 28;
/// Seconds that names of peers may be kept.
const PEER_TTL: i64 = 300;
/// Seconds that names of private services may be kept: they follow proxies as they come and go.
const SERVICE_TTL: i64 = 5;

/// Names of the peer itself, its neighbours and the private services it may use.
pub(super) fn dns_config(model: &AccountModel, me: &PeerModel, reach: &Reach<'_>) -> DnsConfig {
    let everybody: BTreeMap<_, _> = reach
        .neighbours
        .iter()
        .map(|(id, peer)| (*id, *peer))
        .chain([(&me.id, me)])
        .collect();
    let records = everybody
        .values()
        .flat_map(|peer| peer_records(model, peer, me.v6.is_some()))
        .collect();
    let mut zones = vec![DnsZone {
        domain: format!("{}.", model.network.dns_domain),
        records,
        search_disabled: false,
        non_authoritative: false,
    }];
    zones.extend(service_zones(model, me));
    DnsConfig {
        service_enable: true,
        nameserver_groups: Vec::new(),
        zones,
        forwarder_port: forwarder_port(model.peers.values()),
    }
}

fn peer_records(model: &AccountModel, peer: &PeerModel, with_v6: bool) -> Vec<DnsRecord> {
    let labels = std::iter::once(&peer.dns_label).chain(&peer.extra_labels);
    labels
        .flat_map(|label| {
            let name = format!("{label}.{}", model.network.dns_domain);
            let v6 = peer.v6.filter(|_| with_v6).map(|v6| record_v6(name.clone(), v6));
            std::iter::once(record_v4(name, PEER_TTL, peer.v4)).chain(v6)
        })
        .collect()
}

fn service_zones(model: &AccountModel, me: &PeerModel) -> Vec<DnsZone> {
    let mut zones: BTreeMap<&str, Vec<DnsRecord>> = BTreeMap::new();
    for (cluster, _, access) in model.access.private_services() {
        if !access.groups.iter().any(|group| is_member(model, group, me)) {
            continue;
        }
        let proxies: BTreeSet<Ipv4Addr> = model
            .proxies_of(cluster)
            .filter(|proxy| model.connected_proxies.contains(&proxy.id))
            .map(|proxy| proxy.v4)
            .collect();
        let records = zones.entry(cluster).or_default();
        records.extend(
            proxies
                .into_iter()
                .map(|proxy| record_v4(format!("{}.", access.domain), SERVICE_TTL, proxy)),
        );
    }
    zones.retain(|_, records| !records.is_empty());
    zones
        .into_iter()
        .map(|(cluster, records)| DnsZone {
            domain: format!("{cluster}."),
            records,
            search_disabled: true,
            non_authoritative: true,
        })
        .collect()
}

fn is_member(model: &AccountModel, group: &meshgate_proto::GroupId, me: &PeerModel) -> bool {
    model
        .groups
        .get(group)
        .is_some_and(|members| members.contains(&me.id))
}

fn record_v4(name: String, ttl: i64, address: Ipv4Addr) -> DnsRecord {
    DnsRecord {
        name,
        kind: TYPE_A,
        class: "IN".to_owned(),
        ttl,
        data: address.to_string(),
    }
}

fn record_v6(name: String, address: Ipv6Addr) -> DnsRecord {
    DnsRecord {
        name,
        kind: TYPE_AAAA,
        class: "IN".to_owned(),
        ttl: PEER_TTL,
        data: address.to_string(),
    }
}
