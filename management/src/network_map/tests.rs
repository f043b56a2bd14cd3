//! Situations recorded between real programs, computed again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meshgate_proto::network_map::{
    Firewall, NetworkMap, RuleAction, RuleDirection, RulePorts, RuleProtocol, SessionExpiry, SyncUpdate,
};
use meshgate_proto::pb::management as pb;
use meshgate_proto::{GroupId, PeerId, PolicyId, ServiceId};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::grpc::fixtures::{recorded_sync, sorted};

const ALL: &str = "all";
const POLICY: &str = "dc0piutqmd2vi3ul8ib0";
const DOMAIN: &str = "netbird.selfhosted";

/// A model that holds the receiver of a recorded map and the neighbours that it lists.
struct Recorded {
    message: pb::SyncResponse,
    model: AccountModel,
    me: PeerId,
}

impl Recorded {
    fn new(file: &str, seq: u64) -> Self {
        let message = recorded_sync(file, seq);
        let map = message.network_map.as_ref().unwrap();
        let config = map.peer_config.as_ref().unwrap();
        let network = Network {
            v4: Ipv4Addr::new(100, 118, 0, 0),
            v4_prefix: 16,
            v6: "fdce:447e:e9e9:957b::".parse().unwrap(),
            v6_prefix: 64,
            dns_domain: DOMAIN.to_owned(),
            serial: map.serial,
        };
        let settings = MapSettings {
            routing_peer_dns: true,
            lazy_connections: true,
        };
        let mut model = AccountModel::new(network, settings);
        let v6: [u8; 16] = config.address_v6[..16].try_into().unwrap();
        let me = peer(
            &config.fqdn,
            config.address.split('/').next().unwrap(),
            Some(v6.into()),
        );
        let my_id = me.id.clone();
        let mut members = BTreeSet::new();
        for peer in map.remote_peers.iter().map(remote).chain([me]) {
            if peer.proxy_cluster.is_none() {
                members.insert(peer.id.clone());
            }
            model.peers.insert(peer.id.clone(), peer);
        }
        model.groups.insert(GroupId::new(ALL), members);
        Self {
            message,
            model,
            me: my_id,
        }
    }

    fn with_policy(mut self, rule: PolicyRule) -> Self {
        self.model.policies = vec![Policy {
            id: PolicyId::new(POLICY),
            rules: vec![rule],
        }];
        self
    }

    fn computed(&self) -> pb::SyncResponse {
        message(network_map(&self.model, &self.me).unwrap())
    }

    fn assert_same(self) {
        let mut recorded = self.message.clone();
        recorded.netbird_config = None;

        assert_eq!(sorted(self.computed()), sorted(recorded));
    }
}

#[test]
fn a_peer_alone_gets_the_recorded_map() {
    Recorded::new("peer_first_start", 30)
        .with_policy(rule("all", &[], &[]))
        .assert_same();
}

#[test]
fn two_peers_get_the_recorded_maps() {
    for seq in [27, 35] {
        Recorded::new("peer_second_join_direct", seq)
            .with_policy(rule("all", &[], &[]))
            .assert_same();
    }
}

#[test]
fn policies_become_the_recorded_rules() {
    for seq in [0, 1] {
        Recorded::new("map_policy_changes", seq)
            .with_policy(rule("tcp", &["80"], &[]))
            .assert_same();
    }
    for seq in [2, 3] {
        let one_way = PolicyRule {
            bidirectional: false,
            source: Side::Peer(PeerId::new("peer1")),
            destination: Side::Peer(PeerId::new("peer2")),
            ..rule("tcp", &[], &[(8000, 8010)])
        };
        Recorded::new("map_policy_changes", seq)
            .with_policy(one_way)
            .assert_same();
    }
    for seq in [6, 7] {
        let drop = PolicyRule {
            action: RuleAction::Drop,
            ..rule("udp", &["53", "123"], &[])
        };
        Recorded::new("map_policy_changes", seq)
            .with_policy(drop)
            .assert_same();
    }
    for seq in [8, 9] {
        Recorded::new("map_policy_changes", seq).assert_same();
    }
    for seq in [10, 11] {
        Recorded::new("map_policy_changes", seq)
            .with_policy(rule("all", &[], &[]))
            .assert_same();
    }
}

#[test]
fn a_proxy_gets_the_recorded_map_of_its_first_service() {
    let mut recorded = Recorded::new("proxy_start_first_service", 42).with_policy(rule("all", &[], &[]));
    recorded.publish_first_service();

    recorded.assert_same();
}

#[test]
fn a_target_gets_the_recorded_map_of_its_first_service() {
    let mut recorded = Recorded::new("proxy_embedded_network_maps", 2).with_policy(rule("all", &[], &[]));
    recorded.publish_first_service();
    let labels = ["web".to_owned(), "db".to_owned()].to_vec();
    recorded.model.peers.get_mut("pl").unwrap().extra_labels = labels;

    recorded.assert_same();
}

#[test]
fn a_deleted_peer_gets_the_recorded_last_map() {
    let recorded = recorded_sync("peer_deleted", 0);
    let mut model = Recorded::new("peer_deleted", 4).model;
    model.network.serial = 43;

    assert_eq!(message_of(removed_map(&model), SessionExpiry::Unknown), recorded);
}

#[test]
fn ssh_without_ports_does_not_become_every_port() {
    let one_way = PolicyRule {
        bidirectional: false,
        source: Side::Peer(PeerId::new("peer1")),
        destination: Side::Peer(PeerId::new("peer2")),
        ..rule("netbird-ssh", &[], &[])
    };

    let recorded = Recorded::new("map_policy_changes", 5).with_policy(one_way);
    let map = network_map(&recorded.model, &recorded.me).unwrap();

    let ports: BTreeSet<u16> = rules(&map)
        .iter()
        .map(|rule| match rule.ports {
            RulePorts::Single(port) => port,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ports, BTreeSet::from([22, 22022]));
}

#[test]
fn an_empty_rule_list_is_said_to_be_empty() {
    let computed = Recorded::new("peer_first_start", 30).computed();

    let map = computed.network_map.unwrap();
    assert!(map.firewall_rules.is_empty() && map.firewall_rules_is_empty);
}

#[test]
fn private_services_open_the_proxy_to_access_groups_and_name_it_while_it_is_connected() {
    let mut model = Recorded::new("proxy_embedded_network_maps", 2).model;
    let proxy = PeerId::new("dc0ppddqmd2vi3ul8o40");
    publish(
        &mut model,
        ServiceAccess {
            private: Some(PrivateAccess {
                domain: "priv.proxy.test".to_owned(),
                groups: vec![GroupId::new("staff")],
            }),
            ..first_service()
        },
    );
    let staff = BTreeSet::from([PeerId::new("peer1")]);
    model.groups.insert(GroupId::new("staff"), staff);

    let before = network_map(&model, &PeerId::new("peer1")).unwrap();
    model.connected_proxies.insert(proxy.clone());
    let member = network_map(&model, &PeerId::new("peer1")).unwrap();
    let stranger = network_map(&model, &PeerId::new("peer2")).unwrap();
    let at_proxy = network_map(&model, &proxy).unwrap();

    let out = |map: &NetworkMap, direction| -> BTreeSet<(IpAddr, RulePorts2)> {
        rules(map)
            .iter()
            .filter(|rule| rule.policy_id.starts_with("private-access-") && rule.direction == direction)
            .map(|rule| (rule.peer, RulePorts2::from(rule.ports)))
            .collect()
    };
    assert_eq!(before.dns.zones.len(), 1);
    assert_eq!(member.dns.zones[1].domain, "proxy.test.");
    assert_eq!(member.dns.zones[1].records[0].name, "priv.proxy.test.");
    assert_eq!(out(&member, RuleDirection::Out).len(), 4);
    assert_eq!(out(&at_proxy, RuleDirection::In).len(), 4);
    assert!(stranger.remote_peers.is_empty());
    assert_eq!(stranger.dns.zones.len(), 1);
}

#[test]
fn ten_thousand_services_on_one_port_make_one_rule() {
    let mut model = Recorded::new("proxy_embedded_network_maps", 2).model;
    for number in 0..10_000 {
        publish(
            &mut model,
            ServiceAccess {
                id: ServiceId::new(format!("s{number}")),
                ..first_service()
            },
        );
    }

    let map = network_map(&model, &PeerId::new("dc0ppddqmd2vi3ul8o40")).unwrap();

    assert_eq!(map.remote_peers.len(), 1);
    assert_eq!(rules(&map).len(), 2, "one for each address family");
}

#[test]
fn a_peer_that_is_not_admitted_sees_nobody_and_is_seen_by_nobody() {
    let mut recorded = Recorded::new("peer_second_join_direct", 27).with_policy(rule("all", &[], &[]));
    recorded.model.peers.get_mut("peer2").unwrap().admitted = false;

    for peer in ["peer1", "peer2"] {
        let map = network_map(&recorded.model, &PeerId::new(peer)).unwrap();
        assert!(map.remote_peers.is_empty() && rules(&map).is_empty());
    }
}

#[test]
fn version_6_goes_only_to_peers_that_take_part_in_it() {
    let mut recorded = Recorded::new("peer_second_join_direct", 27).with_policy(rule("all", &[], &[]));
    recorded.model.peers.get_mut("peer1").unwrap().v6 = None;

    let map = network_map(&recorded.model, &recorded.me).unwrap();

    assert_eq!(map.peer.unwrap().address_v6, None);
    assert_eq!(map.remote_peers[0].allowed_ips.len(), 1);
    assert!(rules_of(&map.firewall).iter().all(|rule| rule.peer.is_ipv4()));
    assert!(map.dns.zones[0].records.iter().all(|record| record.kind == 1));
}

#[test]
fn one_old_peer_keeps_the_old_forwarder_port_and_one_without_version_does_not() {
    let mut model = Recorded::new("peer_second_join_direct", 27).model;
    for (version, port) in [
        ("0.58.2", 5353),
        ("0.59.0", 22054),
        ("", 22054),
        ("development", 22054),
        ("1.0.0", 22054),
        ("nonsense", 5353),
    ] {
        model.peers.get_mut("peer2").unwrap().agent_version = version.to_owned();

        assert_eq!(forwarder_port(model.peers.values()), port, "{version}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn neighbours_list_each_other_and_rules_come_in_pairs(
        groups in vec(vec(0..PEERS, 0..4), 3),
        policies in vec((0..3usize, 0..3usize, any::<bool>(), any::<bool>(), 0..4usize), 0..5),
        services in vec((0..PEERS, 1..4u16, 0..2usize, any::<bool>()), 0..6),
    ) {
        let model = arbitrary(&groups, &policies, &services);
        let maps: BTreeMap<&PeerId, NetworkMap> = model
            .peers
            .keys()
            .map(|id| (id, network_map(&model, id).unwrap()))
            .collect();

        for (id, map) in &maps {
            let me = &model.peers[*id];
            prop_assert!(map.remote_peers.iter().all(|peer| peer.key != me.key && !peer.allowed_ips.is_empty()));
            for rule in rules(map) {
                prop_assert!(!matches!(rule.ports, RulePorts::Range(0, _) | RulePorts::Single(0) | RulePorts::Empty));
                let (other_id, _) = model.peers.iter().find(|(_, peer)| IpAddr::V4(peer.v4) == rule.peer).unwrap();
                let other = &maps[other_id];
                prop_assert!(other.remote_peers.iter().any(|peer| peer.key == me.key));
                prop_assert!(map.remote_peers.iter().any(|peer| peer.key == model.peers[other_id].key));
                let twin = rules(other).iter().any(|twin| {
                    twin.peer == IpAddr::V4(me.v4)
                        && twin.direction != rule.direction
                        && (twin.action, twin.protocol, twin.ports) == (rule.action, rule.protocol, rule.ports)
                });
                prop_assert!(twin, "{rule:?}");
            }
        }
    }
}

const PEERS: usize = 6;

/// Four machines and two peers of proxies, with rules as the numbers say.
fn arbitrary(
    groups: &[Vec<usize>],
    policies: &[(usize, usize, bool, bool, usize)],
    services: &[(usize, u16, usize, bool)],
) -> AccountModel {
    let mut model = Recorded::new("peer_first_start", 30).model;
    model.peers.clear();
    let id = |number: usize| PeerId::new(format!("p{number}"));
    for number in 0..PEERS {
        let octet = u8::try_from(number).unwrap();
        let peer = PeerModel {
            id: id(number),
            key: meshgate_proto::WgPublicKey::from_bytes([octet; 32]),
            proxy_cluster: (number >= 4).then(|| format!("c{}", number - 4)),
            ..peer(
                &format!("p{number}.{DOMAIN}"),
                &format!("100.118.0.{number}"),
                None,
            )
        };
        model.peers.insert(id(number), peer);
    }
    let group = |number: usize| GroupId::new(format!("g{number}"));
    for (number, members) in groups.iter().enumerate() {
        let machines = members
            .iter()
            .filter(|&&member| member < 4)
            .map(|&member| id(member));
        model.groups.insert(group(number), machines.collect());
    }
    let texts = [
        ("all", vec![]),
        ("tcp", vec!["80"]),
        ("tcp", vec![]),
        ("netbird-ssh", vec![]),
    ];
    model.policies = policies
        .iter()
        .map(|&(from, to, bidirectional, drops, text)| Policy {
            id: PolicyId::new(POLICY),
            rules: vec![PolicyRule {
                bidirectional,
                action: if drops {
                    RuleAction::Drop
                } else {
                    RuleAction::Accept
                },
                source: Side::Groups(vec![group(from)]),
                destination: Side::Groups(vec![group(to)]),
                ..rule(texts[text].0, &texts[text].1, &[])
            }],
        })
        .collect();
    for (number, &(target, port, cluster, private)) in services.iter().enumerate() {
        publish(
            &mut model,
            ServiceAccess {
                id: ServiceId::new(format!("s{number}")),
                cluster: format!("c{cluster}"),
                protocol: RuleProtocol::Tcp,
                targets: vec![PeerTarget {
                    peer: id(target),
                    port,
                    path: "/".to_owned(),
                }],
                private: private.then(|| PrivateAccess {
                    domain: "s.test".to_owned(),
                    groups: vec![group(0)],
                }),
            },
        );
    }
    model
}

/// [`RulePorts`] in an order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RulePorts2(u16, u16);

impl From<RulePorts> for RulePorts2 {
    fn from(ports: RulePorts) -> Self {
        match ports {
            RulePorts::Range(first, last) => Self(first, last),
            RulePorts::Single(port) => Self(port, port),
            RulePorts::Any | RulePorts::Empty => Self(0, 0),
        }
    }
}

impl Recorded {
    fn publish_first_service(&mut self) {
        publish(&mut self.model, first_service());
    }
}

fn publish(model: &mut AccountModel, service: ServiceAccess) {
    model.access.replace(&service.id.clone(), Some(service));
}

fn first_service() -> ServiceAccess {
    ServiceAccess {
        id: ServiceId::new("dc0ppddqmd2vi3ul8o2g"),
        cluster: "proxy.test".to_owned(),
        protocol: RuleProtocol::Tcp,
        targets: vec![PeerTarget {
            peer: PeerId::new("peer1"),
            port: 7777,
            path: "/".to_owned(),
        }],
        private: None,
    }
}

fn rule(protocol: &str, ports: &[&str], ranges: &[(u32, u32)]) -> PolicyRule {
    let ports: Vec<String> = ports.iter().map(|&port| port.to_owned()).collect();
    let traffic = RuleTraffic::parse(TrafficText {
        protocol,
        ports: &ports,
        ranges,
    });
    PolicyRule {
        action: RuleAction::Accept,
        bidirectional: true,
        traffic: traffic.unwrap(),
        source: Side::Groups(vec![GroupId::new(ALL)]),
        destination: Side::Groups(vec![GroupId::new(ALL)]),
    }
}

fn remote(config: &pb::RemotePeerConfig) -> PeerModel {
    let address = |index: usize| config.allowed_ips.get(index).and_then(|ip| ip.split('/').next());
    let v6 = address(1).map(|ip| ip.parse().unwrap());
    PeerModel {
        key: config.wg_pub_key.parse().unwrap(),
        ssh_key: String::from_utf8(config.ssh_config.clone().unwrap().ssh_pub_key).unwrap(),
        agent_version: config.agent_version.clone(),
        ..peer(&config.fqdn, address(0).unwrap(), v6)
    }
}

fn peer(fqdn: &str, v4: &str, v6: Option<Ipv6Addr>) -> PeerModel {
    let label = fqdn.strip_suffix(&format!(".{DOMAIN}")).unwrap();
    let is_proxy = label.starts_with("proxy-");
    PeerModel {
        id: PeerId::new(if is_proxy { "dc0ppddqmd2vi3ul8o40" } else { label }),
        key: meshgate_proto::WgPublicKey::from_bytes([7; 32]),
        v4: v4.parse().unwrap(),
        v6,
        dns_label: label.to_owned(),
        extra_labels: Vec::new(),
        ssh_key: String::new(),
        ssh_enabled: false,
        agent_version: "0.77.1".to_owned(),
        reads_prefixes: true,
        proxy_cluster: is_proxy.then(|| "proxy.test".to_owned()),
        admitted: true,
    }
}

fn rules(map: &NetworkMap) -> &[meshgate_proto::network_map::FirewallRule] {
    rules_of(&map.firewall)
}

fn rules_of(firewall: &Firewall) -> &[meshgate_proto::network_map::FirewallRule] {
    match firewall {
        Firewall::Rules(rules) => rules,
        Firewall::Unspecified => panic!("every map has rules"),
    }
}

fn message(map: NetworkMap) -> pb::SyncResponse {
    message_of(map, SessionExpiry::Never)
}

fn message_of(map: NetworkMap, session: SessionExpiry) -> pb::SyncResponse {
    SyncUpdate {
        servers: None,
        map: Some(map),
        checks: Vec::new(),
        session,
    }
    .into()
}
