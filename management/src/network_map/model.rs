//! The account as network maps need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use meshgate_proto::network_map::RuleAction;
use meshgate_proto::{GroupId, PeerId, PolicyId, WgPublicKey};

use super::access::AccessIndex;
use super::ports::RuleTraffic;

/// Everything that decides over the maps of one account.
#[derive(Clone, Debug)]
pub struct AccountModel {
    /// Address ranges and names.
    pub network: Network,
    /// Settings that maps repeat.
    pub settings: MapSettings,
    /// All peers, those of proxies included.
    pub peers: BTreeMap<PeerId, PeerModel>,
    /// Members of groups. Peers of proxies are never members.
    pub groups: HashMap<GroupId, BTreeSet<PeerId>>,
    /// Policies that are switched on.
    pub policies: Vec<Policy>,
    /// What services open between proxies and their targets.
    pub access: AccessIndex,
    /// Peers of proxies that hold a stream now.
    pub connected_proxies: BTreeSet<PeerId>,
}

impl AccountModel {
    /// An account without peers.
    pub fn new(network: Network, settings: MapSettings) -> Self {
        Self {
            network,
            settings,
            peers: BTreeMap::new(),
            groups: HashMap::new(),
            policies: Vec::new(),
            access: AccessIndex::default(),
            connected_proxies: BTreeSet::new(),
        }
    }

    /// Peers of the proxies of a cluster.
    pub fn proxies_of<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a PeerModel> {
        self.peers
            .values()
            .filter(move |peer| peer.proxy_cluster.as_deref() == Some(cluster))
    }

    /// Members of any of the groups.
    pub fn members_of<'a>(&'a self, groups: impl IntoIterator<Item = &'a GroupId>) -> BTreeSet<&'a PeerId> {
        groups
            .into_iter()
            .filter_map(|group| self.groups.get(group))
            .flatten()
            .collect()
    }
}

/// Address ranges and names of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Overlay range of version 4.
    pub v4: Ipv4Addr,
    /// Its prefix length.
    pub v4_prefix: u8,
    /// Overlay range of version 6.
    pub v6: Ipv6Addr,
    /// Its prefix length.
    pub v6_prefix: u8,
    /// Domain of peer names, without a dot at the end.
    pub dns_domain: String,
    /// Number of the account's newest map.
    pub serial: u64,
}

/// Settings that maps repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSettings {
    /// Routing peers resolve domain routes.
    pub routing_peer_dns: bool,
    /// Connections open with the first packet.
    pub lazy_connections: bool,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerModel {
    /// The peer.
    pub id: PeerId,
    /// Its key.
    pub key: WgPublicKey,
    /// Overlay address.
    pub v4: Ipv4Addr,
    /// Overlay address of version 6, when it takes part in that.
    pub v6: Option<Ipv6Addr>,
    /// First label of its name.
    pub dns_label: String,
    /// Further labels.
    pub extra_labels: Vec<String>,
    /// `authorized_keys` line; empty without.
    pub ssh_key: String,
    /// Its SSH server is wanted.
    pub ssh_enabled: bool,
    /// Program version; empty before the first login.
    pub agent_version: String,
    /// Reads rules with source prefixes.
    pub reads_prefixes: bool,
    /// Cluster of the proxy whose peer this is.
    pub proxy_cluster: Option<String>,
    /// False while its login has ended or it waits for approval: it sees nobody, and nobody sees it.
    pub admitted: bool,
}

impl PeerModel {
    /// Full name in the mesh.
    pub fn fqdn(&self, network: &Network) -> String {
        format!("{}.{}", self.dns_label, network.dns_domain)
    }
}

/// A policy that is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The policy.
    pub id: PolicyId,
    /// Its rules that are switched on.
    pub rules: Vec<PolicyRule>,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// What happens.
    pub action: RuleAction,
    /// Holds the other way round too.
    pub bidirectional: bool,
    /// Which packets.
    pub traffic: RuleTraffic,
    /// From.
    pub source: Side,
    /// To.
    pub destination: Side,
}

/// One side of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// Members of these groups.
    Groups(Vec<GroupId>),
    /// One peer.
    Peer(PeerId),
    /// Something that is not a peer.
    Nothing,
}

impl Side {
    /// True when the peer is on this side.
    pub fn contains(&self, model: &AccountModel, peer: &PeerId) -> bool {
        match self {
            Self::Groups(groups) => groups.iter().any(|group| {
                model
                    .groups
                    .get(group)
                    .is_some_and(|members| members.contains(peer))
            }),
            Self::Peer(one) => one == peer,
            Self::Nothing => false,
        }
    }

    /// All peers on this side.
    pub fn peers<'a>(&'a self, model: &'a AccountModel) -> BTreeSet<&'a PeerId> {
        match self {
            Self::Groups(groups) => model.members_of(groups),
            Self::Peer(one) => BTreeSet::from([one]),
            Self::Nothing => BTreeSet::new(),
        }
    }
}
