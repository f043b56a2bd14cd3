//! Reads accounts from the store into the form that maps are computed from.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use meshgate_proto::network_map::RuleAction;
use meshgate_proto::{GroupId, PeerId};

use super::access::service_access;
use crate::actor::Scope;
use crate::network_map::{
    AccountModel, MapSettings, Network, PeerModel, Policy, PolicyRule, RuleTraffic, Side, TrafficText,
};
use crate::peers::registration::{IPV6_OVERLAY, READS_PREFIXES};
use crate::store::accounts::AccountRow;
use crate::store::groups::ResourceRef;
use crate::store::peers::PeerRow;
use crate::store::policies::{PolicyRow, PolicyRuleRow};
use crate::store::{Store, StoreError};

/// Reads everything of an account; `None` when there is no such account.
pub(super) async fn load_account(
    store: &Store,
    scope: &Scope,
    dns_domain: &str,
) -> Result<Option<AccountModel>, StoreError> {
    let Some(account) = store.account(scope).await? else {
        return Ok(None);
    };
    let mut model = AccountModel::new(network(&account, dns_domain)?, settings(&account));
    for row in store.peers(scope).await? {
        model.peers.insert(row.id.clone(), peer_model(row));
    }
    model.groups = load_groups(store, scope, &model).await?;
    model.policies = load_policies(store, scope).await?;
    for record in store.services(scope).await? {
        let id = record.service.id.clone();
        model.access.replace(&id, service_access(record));
    }
    Ok(Some(model))
}

/// Members of all groups, without the peers of proxies.
pub(super) async fn load_groups(
    store: &Store,
    scope: &Scope,
    model: &AccountModel,
) -> Result<HashMap<GroupId, BTreeSet<PeerId>>, StoreError> {
    let mut groups: HashMap<GroupId, BTreeSet<PeerId>> = HashMap::new();
    for row in store.group_peers(scope).await? {
        if model
            .peers
            .get(&row.peer_id)
            .is_some_and(|peer| peer.proxy_cluster.is_none())
        {
            groups.entry(row.group_id).or_default().insert(row.peer_id);
        }
    }
    Ok(groups)
}

/// Policies and rules that are switched on and mean something.
pub(super) async fn load_policies(store: &Store, scope: &Scope) -> Result<Vec<Policy>, StoreError> {
    let rows = store.policies(scope).await?;
    Ok(rows.into_iter().filter(|row| row.enabled).map(policy).collect())
}

/// Address ranges and names of an account.
pub(crate) fn network(account: &AccountRow, dns_domain: &str) -> Result<Network, StoreError> {
    let IpAddr::V4(v4) = account.network_v4.address() else {
        return Err(StoreError::Corrupt { column: "network_v4" });
    };
    let IpAddr::V6(v6) = account.network_v6.address() else {
        return Err(StoreError::Corrupt { column: "network_v6" });
    };
    let own = &account.settings.dns_domain;
    Ok(Network {
        v4,
        v4_prefix: account.network_v4.prefix(),
        v6,
        v6_prefix: account.network_v6.prefix(),
        dns_domain: if own.is_empty() {
            dns_domain.to_owned()
        } else {
            own.clone()
        },
        serial: account.network_serial,
    })
}

/// Settings that maps repeat.
pub(crate) fn settings(account: &AccountRow) -> MapSettings {
    MapSettings {
        routing_peer_dns: account.settings.routing_peer_dns_resolution_enabled,
        lazy_connections: account.settings.lazy_connection_enabled,
    }
}

/// A stored peer as maps need it.
pub(crate) fn peer_model(row: PeerRow) -> PeerModel {
    let meta = &row.meta;
    let takes_v6 = meta.capabilities.contains(&IPV6_OVERLAY) && !meta.flags.disable_ipv6;
    let not_logged_in_yet = row.proxy_embedded && row.last_login.is_none();
    PeerModel {
        id: row.id,
        key: row.key,
        v4: row.ip,
        v6: row.ipv6.filter(|_| takes_v6 || not_logged_in_yet),
        dns_label: row.dns_label,
        extra_labels: row.extra_dns_labels,
        ssh_key: row.ssh_key,
        ssh_enabled: row.ssh_enabled,
        reads_prefixes: meta.capabilities.contains(&READS_PREFIXES),
        agent_version: row.meta.agent_version,
        proxy_cluster: row.proxy_embedded.then_some(row.proxy_cluster),
        admitted: !row.login_expired && !row.requires_approval,
    }
}

fn policy(row: PolicyRow) -> Policy {
    // Posture checks are not evaluated here, so no peer can be said to pass one.
    let rules = if row.source_posture_checks.is_empty() {
        row.rules
    } else {
        Vec::new()
    };
    Policy {
        id: row.id,
        rules: rules
            .into_iter()
            .filter(|rule| rule.enabled)
            .filter_map(policy_rule)
            .collect(),
    }
}

fn policy_rule(row: PolicyRuleRow) -> Option<PolicyRule> {
    let ranges: Vec<(u32, u32)> = row
        .port_ranges
        .iter()
        .map(|range| (u32::from(range.start), u32::from(range.end)))
        .collect();
    let traffic = RuleTraffic::parse(TrafficText {
        protocol: &row.protocol,
        ports: &row.ports,
        ranges: &ranges,
    })?;
    Some(PolicyRule {
        action: match row.action.as_str() {
            "accept" => RuleAction::Accept,
            "drop" => RuleAction::Drop,
            _ => return None,
        },
        bidirectional: row.bidirectional,
        traffic,
        source: side(row.source_resource, row.sources),
        destination: side(row.destination_resource, row.destinations),
    })
}

fn side(resource: Option<ResourceRef>, groups: Vec<GroupId>) -> Side {
    match resource {
        Some(resource) if resource.kind == "peer" => Side::Peer(PeerId::new(resource.id)),
        Some(_) => Side::Nothing,
        None => Side::Groups(groups),
    }
}
