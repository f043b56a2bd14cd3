//! Who may talk to whom, seen from one peer: firewall rules, and with them the neighbours it sees.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use meshgate_proto::network_map::{FirewallRule, RuleAction, RuleDirection, RulePorts, RuleProtocol};
use meshgate_proto::{Cidr, PeerId};

use super::model::{AccountModel, PeerModel, Policy, PolicyRule, Side};
use super::ports::RuleTraffic;

/// Ports on which proxies serve private services inside the tunnel.
const PRIVATE_PORTS: [u16; 2] = [80, 443];

/// Rules and neighbours of one peer.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    /// Rules, without repetition.
    pub(super) rules: Vec<FirewallRule>,
    /// Whoever is named by a rule.
    pub(super) neighbours: BTreeMap<&'a PeerId, &'a PeerModel>,
    seen: HashSet<Seen<'a>>,
    me: &'a PeerModel,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Seen<'a> {
    peer: &'a PeerId,
    direction: RuleDirection,
    action: RuleAction,
    protocol: RuleProtocol,
    ports: RulePorts,
}

/// Works out what a peer may do.
pub(super) fn reach<'a>(model: &'a AccountModel, me: &'a PeerModel) -> Reach<'a> {
    let mut reach = Reach {
        rules: Vec::new(),
        neighbours: BTreeMap::new(),
        seen: HashSet::new(),
        me,
    };
    for policy in &model.policies {
        for rule in &policy.rules {
            reach.apply_policy(model, policy, rule);
        }
    }
    reach.apply_targets(model);
    reach.apply_private_services(model);
    reach
}

impl<'a> Reach<'a> {
    fn apply_policy(&mut self, model: &'a AccountModel, policy: &'a Policy, rule: &'a PolicyRule) {
        let is_source = rule.source.contains(model, &self.me.id);
        let is_destination = rule.destination.contains(model, &self.me.id);
        let mut add = |side: &'a Side, directions: &[RuleDirection]| {
            for direction in directions {
                for peer in side.peers(model) {
                    if let Some(peer) = model.peers.get(peer) {
                        self.add(peer, *direction, rule.action, &rule.traffic, policy.id.as_str());
                    }
                }
            }
        };
        let both = [RuleDirection::In, RuleDirection::Out];
        if is_destination {
            add(&rule.source, if rule.bidirectional { &both } else { &both[..1] });
        }
        if is_source {
            add(
                &rule.destination,
                if rule.bidirectional { &both } else { &both[1..] },
            );
        }
    }

    fn apply_targets(&mut self, model: &'a AccountModel) {
        if let Some(cluster) = &self.me.proxy_cluster {
            for opened in model.access.opened_from(cluster) {
                let Some(target) = model.peers.get(opened.peer) else {
                    continue;
                };
                if let Some(traffic) = RuleTraffic::range(opened.protocol, opened.first, opened.last) {
                    let policy = opened.owner.policy_id(&self.me.id);
                    self.add(
                        target,
                        RuleDirection::Out,
                        RuleAction::Accept,
                        &traffic,
                        policy.as_str(),
                    );
                }
            }
        }
        for (cluster, opened) in model.access.opened_to(&self.me.id) {
            let Some(traffic) = RuleTraffic::range(opened.protocol, opened.first, opened.last) else {
                continue;
            };
            for proxy in model.proxies_of(cluster) {
                let policy = opened.owner.policy_id(&proxy.id);
                self.add(
                    proxy,
                    RuleDirection::In,
                    RuleAction::Accept,
                    &traffic,
                    policy.as_str(),
                );
            }
        }
    }

    fn apply_private_services(&mut self, model: &'a AccountModel) {
        let traffic = RuleTraffic {
            protocol: RuleProtocol::Tcp,
            ports: PRIVATE_PORTS.map(|port| RulePorts::Range(port, port)).to_vec(),
        };
        for (cluster, service, access) in model.access.private_services() {
            let members = model.members_of(&access.groups);
            if self.me.proxy_cluster.as_deref() == Some(cluster) {
                let policy = format!("private-access-{service}-{}", self.me.id);
                for member in members.iter().filter_map(|&member| model.peers.get(member)) {
                    self.add(member, RuleDirection::In, RuleAction::Accept, &traffic, &policy);
                }
            } else if members.contains(&self.me.id) {
                for proxy in model.proxies_of(cluster) {
                    let policy = format!("private-access-{service}-{}", proxy.id);
                    self.add(proxy, RuleDirection::Out, RuleAction::Accept, &traffic, &policy);
                }
            }
        }
    }

    fn add(
        &mut self,
        peer: &'a PeerModel,
        direction: RuleDirection,
        action: RuleAction,
        traffic: &RuleTraffic,
        policy: &str,
    ) {
        if peer.id == self.me.id || !peer.admitted || !self.me.admitted {
            return;
        }
        let fresh: Vec<RulePorts> = traffic
            .ports
            .iter()
            .copied()
            .filter(|&ports| {
                self.seen.insert(Seen {
                    peer: &peer.id,
                    direction,
                    action,
                    protocol: traffic.protocol,
                    ports,
                })
            })
            .collect();
        if fresh.is_empty() {
            return;
        }
        self.neighbours.insert(&peer.id, peer);
        let v6 = peer.v6.filter(|_| self.me.v6.is_some()).map(IpAddr::V6);
        for address in std::iter::once(IpAddr::V4(peer.v4)).chain(v6) {
            self.rules.extend(fresh.iter().map(|&ports| FirewallRule {
                peer: address,
                source: self.me.reads_prefixes.then(|| Cidr::host(address)),
                direction,
                action,
                protocol: traffic.protocol,
                ports,
                policy_id: policy.to_owned(),
            }));
        }
    }
}
