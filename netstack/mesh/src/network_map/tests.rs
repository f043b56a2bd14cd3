use meshgate_proto::InvalidMessage;
use meshgate_proto::network_map::DnsConfig;
use meshgate_proto::pb::management as pb;
use proptest::prelude::*;

use super::*;

#[test]
fn applies_the_difference_only() {
    let mut state = state();
    state
        .apply(map(1, &[peer(1, "100.64.0.1/32"), peer(2, "100.64.0.2/32")]))
        .unwrap();

    let changes = state
        .apply(map(2, &[peer(2, "100.64.0.2/32"), peer(3, "100.64.0.3/32")]))
        .unwrap();

    assert_eq!(keys(&changes.upserts), [key(3)]);
    assert_eq!(changes.removals, [key(1)]);
}

#[test]
fn an_equal_serial_is_applied_again_and_a_lower_one_never() {
    let mut state = state();
    state.apply(map(5, &[])).unwrap();

    assert!(state.apply(map(5, &[peer(1, "100.64.0.1/32")])).is_ok());
    let stale = state.apply(map(4, &[])).unwrap_err();

    assert_eq!(stale.to_string(), "map 4 is older than map 5");
    assert_eq!(state.serial(), Some(5));
}

#[test]
fn a_new_stream_may_count_from_the_start() {
    let mut state = state();
    state.apply(map(5, &[])).unwrap();

    state.forget_serial();

    assert!(state.apply(map(1, &[])).is_ok());
}

#[test]
fn leaves_ourselves_out() {
    let changes = state().apply(map(1, &[peer(9, "100.64.0.9/32")])).unwrap();

    assert_eq!(changes.upserts, []);
}

#[test]
fn one_broken_peer_leaves_the_others_in_force() {
    let good = pb::RemotePeerConfig {
        wg_pub_key: key(1).to_string(),
        allowed_ips: vec!["100.64.0.1/32".to_owned()],
        ..Default::default()
    };
    let without_address = pb::RemotePeerConfig {
        wg_pub_key: key(2).to_string(),
        ..Default::default()
    };
    let without_key = pb::RemotePeerConfig {
        wg_pub_key: "nonsense".to_owned(),
        allowed_ips: vec!["100.64.0.3/32".to_owned()],
        ..Default::default()
    };
    let message = pb::NetworkMap {
        serial: 1,
        remote_peers: vec![without_address, without_key, good],
        firewall_rules_is_empty: true,
        ..Default::default()
    };

    let changes = state().apply(message.try_into().unwrap()).unwrap();

    assert_eq!(keys(&changes.upserts), [key(1)]);
    assert_eq!(changes.problems.len(), 2, "{:?}", changes.problems);
}

#[test]
fn an_address_belongs_to_the_first_peer_that_claims_it() {
    let changes = state()
        .apply(map(1, &[peer(1, "100.64.0.1/32"), peer(2, "100.64.0.1/32")]))
        .unwrap();

    assert_eq!(keys(&changes.upserts), [key(1)]);
    assert_eq!(changes.problems.len(), 2);
}

#[test]
fn an_unspecified_firewall_lets_nothing_in() {
    let mut map = map(1, &[]);
    map.firewall = Firewall::Unspecified;

    let changes = state().apply(map).unwrap();

    assert_eq!(changes.firewall, []);
    assert_eq!(changes.problems.len(), 1);
}

#[test]
fn only_inbound_rules_count_and_everybody_is_an_open_range() {
    let mut map = map(1, &[]);
    map.firewall = Firewall::Rules(vec![
        rule("100.64.0.1", RuleDirection::Out, RulePorts::Any),
        rule("100.64.0.1", RuleDirection::In, RulePorts::Single(80)),
        rule("0.0.0.0", RuleDirection::In, RulePorts::Range(90, 99)),
        rule("::", RuleDirection::In, RulePorts::Any),
    ]);

    let changes = state().apply(map).unwrap();

    let shown: Vec<_> = changes
        .firewall
        .iter()
        .map(|rule| (rule.source.to_string(), rule.ports.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("100.64.0.1/32".to_owned(), Ports::single(80)),
            ("0.0.0.0/0".to_owned(), Ports::Range(90..=99)),
            ("::/0".to_owned(), Ports::All),
        ]
    );
}

#[test]
fn a_rule_for_ports_zero_to_zero_opens_nothing() {
    let mut map = map(1, &[]);
    map.firewall = Firewall::Rules(vec![rule(
        "100.64.0.1",
        RuleDirection::In,
        RulePorts::Range(0, 0),
    )]);

    let changes = state().apply(map).unwrap();

    assert_eq!(changes.firewall, []);
    assert_eq!(changes.problems.len(), 1);
}

#[test]
fn a_dropping_rule_with_unusable_ports_drops_everything() {
    let mut map = map(1, &[]);
    let mut drop = rule("100.64.0.1", RuleDirection::In, RulePorts::Range(9, 1));
    drop.action = RuleAction::Drop;
    map.firewall = Firewall::Rules(vec![drop]);

    let changes = state().apply(map).unwrap();

    assert_eq!(changes.firewall[0].ports, Ports::All);
    assert_eq!(changes.firewall[0].verdict, Verdict::Drop);
}

#[test]
fn networks_lie_behind_the_peer_with_the_lowest_metric() {
    let mut map = map(1, &[peer(1, "100.64.0.1/32"), peer(2, "100.64.0.2/32")]);
    map.routes = vec![
        route(1, "10.0.0.0/8", 200),
        route(2, "10.0.0.0/8", 100),
        route(7, "10.9.0.0/16", 1),
    ];

    let changes = state().apply(map).unwrap();

    let routed: Vec<_> = changes
        .upserts
        .iter()
        .filter(|peer| peer.allowed_ips.len() == 2)
        .collect();
    assert_eq!(routed.len(), 1);
    assert_eq!(routed[0].key, key(2));
}

#[test]
fn routes_are_left_alone_when_switched_off_or_unselected() {
    let mut with_exit_node = map(1, &[peer(1, "100.64.0.1/32")]);
    let mut exit_node = route(1, "0.0.0.0/0", 1);
    exit_node.skip_auto_apply = true;
    with_exit_node.routes = vec![exit_node];
    let mut with_route = map(2, &[peer(1, "100.64.0.1/32")]);
    with_route.routes = vec![route(1, "10.0.0.0/8", 1)];

    let unselected = state().apply(with_exit_node).unwrap();
    let switched_off = MapState::new(key(9), ClientRoutes::Ignored)
        .apply(with_route)
        .unwrap();

    assert_eq!(unselected.upserts[0].allowed_ips.len(), 1);
    assert_eq!(switched_off.upserts[0].allowed_ips.len(), 1);
}

#[test]
fn the_last_map_of_a_deleted_peer_removes_everybody() {
    let mut state = state();
    state.apply(map(1, &[peer(1, "100.64.0.1/32")])).unwrap();

    let mut last = map(2, &[]);
    last.peer = None;
    let changes = state.apply(last).unwrap();

    assert_eq!(changes.removals, [key(1)]);
}

#[test]
fn what_the_conversion_skipped_is_told() {
    let mut map = map(1, &[]);
    map.skipped = vec![InvalidMessage::new(
        "FirewallRules.PortInfo",
        "start is above end",
    )];

    let changes = state().apply(map).unwrap();

    assert_eq!(
        changes.problems,
        ["invalid message: FirewallRules.PortInfo: start is above end"]
    );
}

proptest! {
    #[test]
    fn applying_any_message_that_parses_never_panics(
        keys in proptest::collection::vec("[A-Za-z0-9+/]{43}=|\\PC{0,8}", 0..4),
        networks in proptest::collection::vec("[0-9a-f.:]{0,20}/[0-9]{1,3}|\\PC{0,8}", 0..4),
        ports in any::<(u32, u32, String)>(),
        numbers in any::<(i32, i32, i64)>(),
    ) {
        let peers = keys.iter().map(|key| pb::RemotePeerConfig {
            wg_pub_key: key.clone(),
            allowed_ips: networks.clone(),
            ..Default::default()
        });
        let routes = networks.iter().zip(&keys).map(|(network, key)| pb::Route {
            network: network.clone(),
            network_type: numbers.2 & 3,
            peer: key.clone(),
            ..Default::default()
        });
        let range = pb::port_info::Range { start: ports.0, end: ports.1 };
        let rules = networks.iter().map(|network| pb::FirewallRule {
            action: numbers.0,
            protocol: numbers.1,
            port: ports.2.clone(),
            port_info: Some(pb::PortInfo {
                port_selection: Some(pb::port_info::PortSelection::Range(range)),
            }),
            source_prefixes: vec![network.clone().into_bytes()],
            ..Default::default()
        });
        let message = pb::NetworkMap {
            remote_peers: peers.collect(),
            routes: routes.collect(),
            firewall_rules: rules.collect(),
            ..Default::default()
        };
        if let Ok(map) = NetworkMap::try_from(message) {
            let _ = state().apply(map);
        }
    }

    #[test]
    fn diffs_lead_to_the_same_peers_as_the_last_map_alone(
        maps in proptest::collection::vec(proptest::collection::vec((1u8..6, 1u8..6), 0..6), 1..8),
    ) {
        let mut state = state();
        let mut shown: HashMap<WgPublicKey, MapPeer> = HashMap::new();
        for (serial, peers) in (1..).zip(&maps) {
            let peers: Vec<_> = peers.iter().map(|(k, ip)| peer(*k, &format!("100.64.0.{ip}/32"))).collect();
            let changes = state.apply(map(serial, &peers)).unwrap();
            for key in changes.removals {
                shown.remove(&key);
            }
            shown.extend(changes.upserts.into_iter().map(|peer| (peer.key, peer)));
        }

        let last: Vec<_> = maps.last().unwrap().iter().map(|(k, ip)| peer(*k, &format!("100.64.0.{ip}/32"))).collect();
        let alone = self::state().apply(map(1, &last)).unwrap();
        let alone: HashMap<_, _> = alone.upserts.into_iter().map(|peer| (peer.key, peer)).collect();
        prop_assert_eq!(shown, alone);
    }
}

fn state() -> MapState {
    MapState::new(key(9), ClientRoutes::Used)
}

fn key(byte: u8) -> WgPublicKey {
    WgPublicKey::from_bytes([byte; 32])
}

fn keys(peers: &[MapPeer]) -> Vec<WgPublicKey> {
    peers.iter().map(|peer| peer.key).collect()
}

fn peer(byte: u8, address: &str) -> RemotePeer {
    RemotePeer {
        key: key(byte),
        allowed_ips: vec![address.parse().unwrap()],
        fqdn: format!("peer{byte}.mesh"),
        ssh_public_key: String::new(),
        agent_version: "0.77.1".to_owned(),
    }
}

fn map(serial: u64, peers: &[RemotePeer]) -> NetworkMap {
    NetworkMap {
        serial,
        peer: None,
        remote_peers: peers.to_vec(),
        offline_peers: Vec::new(),
        firewall: Firewall::Rules(Vec::new()),
        dns: DnsConfig::default(),
        routes: Vec::new(),
        route_firewall: Vec::new(),
        route_firewall_is_empty: true,
        ssh_user_id_claim: String::new(),
        skipped: Vec::new(),
    }
}

fn rule(peer: &str, direction: RuleDirection, ports: RulePorts) -> wire::FirewallRule {
    wire::FirewallRule {
        peer: peer.parse().unwrap(),
        source: None,
        direction,
        action: RuleAction::Accept,
        protocol: RuleProtocol::Tcp,
        ports,
        policy_id: "policy".to_owned(),
    }
}

fn route(peer: u8, network: &str, metric: i64) -> Route {
    Route {
        id: format!("route{peer}"),
        network: network.to_owned(),
        network_type: 1,
        peer: key(peer),
        metric,
        masquerade: true,
        net_id: "net".to_owned(),
        domains: Vec::new(),
        keep_route: false,
        skip_auto_apply: false,
    }
}
