//! The mesh as one peer sees it.
//!
//! One bad neighbour, route or permitting rule is left out and named in `skipped`; what would open
//! something when left out makes the whole map invalid.

use super::InvalidMessage;
use super::peer::{checks, pb_checks, pb_session, session};
use super::rules::Parsed;
use crate::network_map::{Firewall, FirewallRule, NetworkMap, PeerConfig, Route, SyncUpdate};
use crate::pb::management as pb;

impl TryFrom<pb::SyncResponse> for SyncUpdate {
    type Error = InvalidMessage;

    fn try_from(response: pb::SyncResponse) -> Result<Self, InvalidMessage> {
        if response.version != 0 {
            let reason = format!("form {} was not asked for", response.version);
            return Err(InvalidMessage::new("Version", reason));
        }
        Ok(Self {
            servers: response.netbird_config.map(TryInto::try_into).transpose()?,
            map: response.network_map.map(TryInto::try_into).transpose()?,
            checks: checks(response.checks),
            session: session(response.session_expires_at)?,
        })
    }
}

impl From<SyncUpdate> for pb::SyncResponse {
    fn from(update: SyncUpdate) -> Self {
        let peer_config = update
            .map
            .as_ref()
            .and_then(|map| map.peer.clone())
            .map(pb::PeerConfig::from);
        let remote_peers_is_empty = update.map.as_ref().is_some_and(|map| map.remote_peers.is_empty());
        Self {
            netbird_config: update.servers.map(Into::into),
            peer_config,
            remote_peers_is_empty,
            network_map: update.map.map(Into::into),
            checks: pb_checks(update.checks),
            session_expires_at: pb_session(update.session),
            ..Self::default()
        }
    }
}

impl TryFrom<pb::NetworkMap> for NetworkMap {
    type Error = InvalidMessage;

    fn try_from(map: pb::NetworkMap) -> Result<Self, InvalidMessage> {
        let mut skipped = Vec::new();
        let rules = firewall_rules(map.firewall_rules, &mut skipped)?;
        let unspecified = rules.is_empty() && skipped.is_empty() && !map.firewall_rules_is_empty;
        Ok(Self {
            serial: map.serial,
            peer: map.peer_config.map(PeerConfig::try_from).transpose()?,
            remote_peers: lenient(map.remote_peers, &mut skipped),
            offline_peers: lenient(map.offline_peers, &mut skipped),
            firewall: if unspecified {
                Firewall::Unspecified
            } else {
                Firewall::Rules(rules)
            },
            dns: map
                .dns_config
                .map(TryInto::try_into)
                .transpose()?
                .unwrap_or_default(),
            routes: lenient(map.routes, &mut skipped),
            route_firewall: map
                .routes_firewall_rules
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            route_firewall_is_empty: map.routes_firewall_rules_is_empty,
            ssh_user_id_claim: map.ssh_auth.map(|auth| auth.user_id_claim).unwrap_or_default(),
            skipped,
        })
    }
}

impl From<NetworkMap> for pb::NetworkMap {
    fn from(map: NetworkMap) -> Self {
        let (rules, firewall_rules_is_empty) = match map.firewall {
            Firewall::Unspecified => (Vec::new(), false),
            Firewall::Rules(rules) => {
                let is_empty = rules.is_empty();
                (rules, is_empty)
            }
        };
        Self {
            serial: map.serial,
            peer_config: map.peer.map(Into::into),
            remote_peers_is_empty: map.remote_peers.is_empty(),
            remote_peers: map.remote_peers.into_iter().map(Into::into).collect(),
            routes: map.routes.into_iter().map(Into::into).collect(),
            dns_config: Some(map.dns.into()),
            offline_peers: map.offline_peers.into_iter().map(Into::into).collect(),
            firewall_rules: rules.into_iter().map(Into::into).collect(),
            firewall_rules_is_empty,
            routes_firewall_rules: map.route_firewall.into_iter().map(Into::into).collect(),
            routes_firewall_rules_is_empty: map.route_firewall_is_empty,
            forwarding_rules: Vec::new(),
            ssh_auth: super::non_empty(map.ssh_user_id_claim).map(|user_id_claim| pb::SshAuth {
                user_id_claim,
                ..pb::SshAuth::default()
            }),
        }
    }
}

impl TryFrom<pb::Route> for Route {
    type Error = InvalidMessage;

    fn try_from(route: pb::Route) -> Result<Self, InvalidMessage> {
        Ok(Self {
            id: route.id,
            network: route.network,
            network_type: route.network_type,
            peer: route
                .peer
                .parse()
                .map_err(|e| InvalidMessage::because("Routes.Peer", e))?,
            metric: route.metric,
            masquerade: route.masquerade,
            net_id: route.net_id,
            domains: route.domains,
            keep_route: route.keep_route,
            skip_auto_apply: route.skip_auto_apply,
        })
    }
}

impl From<Route> for pb::Route {
    fn from(route: Route) -> Self {
        Self {
            id: route.id,
            network: route.network,
            network_type: route.network_type,
            peer: route.peer.to_string(),
            metric: route.metric,
            masquerade: route.masquerade,
            net_id: route.net_id,
            domains: route.domains,
            keep_route: route.keep_route,
            skip_auto_apply: route.skip_auto_apply,
        }
    }
}

fn firewall_rules(
    messages: Vec<pb::FirewallRule>,
    skipped: &mut Vec<InvalidMessage>,
) -> Result<Vec<FirewallRule>, InvalidMessage> {
    let mut rules = Vec::with_capacity(messages.len());
    for message in messages {
        match Parsed::try_from(message)? {
            Parsed::Rule(rule) => rules.push(rule),
            Parsed::Skipped(error) => skipped.push(error),
        }
    }
    Ok(rules)
}

fn lenient<M, T>(messages: Vec<M>, skipped: &mut Vec<InvalidMessage>) -> Vec<T>
where
    T: TryFrom<M, Error = InvalidMessage>,
{
    let mut parsed = Vec::with_capacity(messages.len());
    for message in messages {
        match T::try_from(message) {
            Ok(value) => parsed.push(value),
            Err(error) => skipped.push(error),
        }
    }
    parsed
}
