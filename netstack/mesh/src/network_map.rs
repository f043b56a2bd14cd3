//! Applies network maps: what changed between the map in force and a new one. Pure.
//!
//! What cannot be used is left out and named, never guessed: a rule or a peer that does not parse, a rule
//! for ports `0..0` (a Go peer reads that as every port), a peer twice. A map whose firewall is
//! [`Firewall::Unspecified`] (an empty list from a server of old, which means "allow all" there) lets
//! nothing in here.

use std::collections::HashMap;
use std::net::IpAddr;

use meshgate_netstack::{Cidr, FirewallRule, Ports, Protocol, Verdict};
use meshgate_proto::network_map::{
    self as wire, Firewall, NetworkMap, RemotePeer, Route, RuleAction, RuleDirection, RulePorts, RuleProtocol,
};
use meshgate_proto::{Cidr as WireCidr, WgPublicKey};

/// Type number of IPv4 and IPv6 routes on the wire; 3 is a domain route.
const PREFIX_ROUTES: [i64; 2] = [1, 2];

/// Which routes of a map are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientRoutes {
    /// Networks behind peers are reached through them.
    Used,
    /// Only the peers themselves are reached.
    Ignored,
}

/// The map in force.
#[derive(Debug)]
pub(crate) struct MapState {
    ours: WgPublicKey,
    client_routes: ClientRoutes,
    serial: Option<u64>,
    peers: HashMap<WgPublicKey, MapPeer>,
}

/// A neighbour as the netstack needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapPeer {
    pub(crate) key: WgPublicKey,
    pub(crate) fqdn: String,
    /// Its own addresses; the first is its identity.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its own addresses and the networks behind it.
    pub(crate) allowed_ips: Vec<Cidr>,
}

/// What to do to get from the map in force to the new one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// New and changed peers.
    pub(crate) upserts: Vec<MapPeer>,
    /// Peers that are not in the map any more.
    pub(crate) removals: Vec<WgPublicKey>,
    /// All inbound rules.
    pub(crate) firewall: Vec<FirewallRule>,
    /// Parts that could not be used.
    pub(crate) problems: Vec<String>,
}

/// A map older than the one in force; it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("map {offered} is older than map {in_force}")]
pub(crate) struct StaleMap {
    offered: u64,
    in_force: u64,
}

impl MapState {
    /// No map yet.
    pub(crate) fn new(ours: WgPublicKey, client_routes: ClientRoutes) -> Self {
        Self {
            ours,
            client_routes,
            serial: None,
            peers: HashMap::new(),
        }
    }

    /// Serial number of the map in force.
    pub(crate) fn serial(&self) -> Option<u64> {
        self.serial
    }

    /// A new stream of maps begins: a server that lost its state may count from the start again.
    pub(crate) fn forget_serial(&mut self) {
        self.serial = None;
    }

    /// Puts a map in force. One with the same serial number is applied again.
    pub(crate) fn apply(&mut self, map: NetworkMap) -> Result<Changes, StaleMap> {
        if let Some(in_force) = self.serial.filter(|serial| map.serial < *serial) {
            return Err(StaleMap {
                offered: map.serial,
                in_force,
            });
        }
        self.serial = Some(map.serial);
        let mut problems: Vec<_> = map.skipped.iter().map(ToString::to_string).collect();
        let mut peers = neighbours(&self.ours, map.remote_peers, &mut problems);
        if self.client_routes == ClientRoutes::Used {
            add_routes(&self.ours, &map.routes, &mut peers, &mut problems);
        }
        let firewall = inbound_rules(&map.firewall, &mut problems);

        let removals = self
            .peers
            .keys()
            .filter(|key| !peers.contains_key(*key))
            .copied()
            .collect();
        let upserts = peers
            .values()
            .filter(|peer| self.peers.get(&peer.key) != Some(*peer))
            .cloned()
            .collect();
        self.peers = peers;
        Ok(Changes {
            upserts,
            removals,
            firewall,
            problems,
        })
    }
}

fn neighbours(
    ours: &WgPublicKey,
    remote: Vec<RemotePeer>,
    problems: &mut Vec<String>,
) -> HashMap<WgPublicKey, MapPeer> {
    let mut peers = HashMap::with_capacity(remote.len());
    let mut owners: HashMap<Cidr, WgPublicKey> = HashMap::new();
    for peer in remote.into_iter().filter(|peer| peer.key != *ours) {
        if peers.contains_key(&peer.key) {
            problems.push(format!("peer {} is listed twice", peer.key.short()));
            continue;
        }
        let mut allowed_ips = Vec::with_capacity(peer.allowed_ips.len());
        for cidr in peer.allowed_ips.iter().filter_map(cidr) {
            match owners.get(&cidr) {
                Some(owner) if *owner != peer.key => problems.push(format!(
                    "peers {} and {} claim {cidr}",
                    owner.short(),
                    peer.key.short()
                )),
                Some(_) => {}
                None => {
                    owners.insert(cidr, peer.key);
                    allowed_ips.push(cidr);
                }
            }
        }
        if allowed_ips.is_empty() {
            problems.push(format!("peer {} has no address", peer.key.short()));
            continue;
        }
        peers.insert(
            peer.key,
            MapPeer {
                key: peer.key,
                fqdn: peer.fqdn,
                addresses: allowed_ips.iter().map(Cidr::address).collect(),
                allowed_ips,
            },
        );
    }
    peers
}

/// Of routes to one network the one with the lowest metric counts; among equals the lower id, so that the
/// choice does not depend on the order of the list.
fn add_routes(
    ours: &WgPublicKey,
    routes: &[Route],
    peers: &mut HashMap<WgPublicKey, MapPeer>,
    problems: &mut Vec<String>,
) {
    let mut best: HashMap<Cidr, &Route> = HashMap::new();
    for route in routes {
        let usable = PREFIX_ROUTES.contains(&route.network_type) && !route.skip_auto_apply;
        if !usable || route.peer == *ours || !peers.contains_key(&route.peer) {
            continue;
        }
        let Ok(network) = route.network.parse::<Cidr>() else {
            problems.push(format!("route {} has no usable network", route.id));
            continue;
        };
        let rank = |route: &Route| (route.metric, route.id.clone());
        best.entry(network)
            .and_modify(|chosen| {
                if rank(route) < rank(chosen) {
                    *chosen = route;
                }
            })
            .or_insert(route);
    }
    let mut chosen: Vec<_> = best.into_iter().collect();
    chosen.sort_by_key(|(network, _)| *network);
    for (network, route) in chosen {
        if let Some(peer) = peers.get_mut(&route.peer) {
            peer.allowed_ips.push(network);
        }
    }
}

fn inbound_rules(firewall: &Firewall, problems: &mut Vec<String>) -> Vec<FirewallRule> {
    let rules = match firewall {
        Firewall::Unspecified => {
            problems.push("no firewall was given; nothing is let in".to_owned());
            return Vec::new();
        }
        Firewall::Rules(rules) => rules,
    };
    let mut inbound = Vec::with_capacity(rules.len());
    for rule in rules.iter().filter(|rule| rule.direction == RuleDirection::In) {
        match inbound_rule(rule) {
            Some(rule) => inbound.push(rule),
            None => problems.push(format!("rule of policy {} names no usable ports", rule.policy_id)),
        }
    }
    inbound
}

/// `None` for ports that nothing can use; a rule that drops then drops everything.
fn inbound_rule(rule: &wire::FirewallRule) -> Option<FirewallRule> {
    let verdict = match rule.action {
        RuleAction::Accept => Verdict::Accept,
        RuleAction::Drop => Verdict::Drop,
    };
    let ports = match rule.ports {
        RulePorts::Any | RulePorts::Empty => Ports::All,
        RulePorts::Single(port) if port != 0 => Ports::single(port),
        RulePorts::Range(first, last) if last != 0 && first <= last => Ports::Range(first..=last),
        RulePorts::Single(_) | RulePorts::Range(..) => match verdict {
            Verdict::Drop => Ports::All,
            Verdict::Accept => return None,
        },
    };
    Some(FirewallRule {
        source: source(rule),
        protocol: match rule.protocol {
            RuleProtocol::All => Protocol::All,
            RuleProtocol::Tcp => Protocol::Tcp,
            RuleProtocol::Udp => Protocol::Udp,
            RuleProtocol::Icmp => Protocol::Icmp,
        },
        ports,
        verdict,
    })
}

/// The unspecified address stands for everybody of its family.
fn source(rule: &wire::FirewallRule) -> Cidr {
    let (address, prefix) = match rule.source {
        Some(source) => (source.address(), Some(source.prefix())),
        None => (rule.peer, None),
    };
    if address.is_unspecified() {
        return Cidr::new(address, 0).expect("zero is a length of every family");
    }
    prefix
        .and_then(|prefix| Cidr::new(address, prefix).ok())
        .unwrap_or_else(|| Cidr::host(address))
}

fn cidr(wire: &WireCidr) -> Option<Cidr> {
    Cidr::new(wire.address(), wire.prefix()).ok()
}

#[cfg(test)]
mod tests;
