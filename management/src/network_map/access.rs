//! What services open: from the proxies of a cluster to targets, and from access groups to the proxies.
//!
//! Ten thousand services that point at one port of one peer need one rule, not ten thousand. So the index
//! counts by (cluster, target, protocol, port); a service that adds nothing new touches no map.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meshgate_proto::network_map::RuleProtocol;
use meshgate_proto::{GroupId, PeerId, PolicyId, ServiceId};

/// One enabled service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccess {
    /// The service.
    pub id: ServiceId,
    /// The cluster it is published on.
    pub cluster: String,
    /// What its targets speak.
    pub protocol: RuleProtocol,
    /// Its enabled targets that are peers.
    pub targets: Vec<PeerTarget>,
    /// Set for services that only peers may use.
    pub private: Option<PrivateAccess>,
}

/// A target that is a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// The peer.
    pub peer: PeerId,
    /// Its port; never 0.
    pub port: u16,
    /// Path of the target, which is part of the policy's name.
    pub path: String,
}

/// Who may use a private service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateAccess {
    /// Name that the groups resolve to the proxies.
    pub domain: String,
    /// Members may connect to the proxies.
    pub groups: Vec<GroupId>,
}

/// Whose maps may be different after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Proxies of these clusters.
    pub clusters: BTreeSet<String>,
    /// These targets.
    pub peers: BTreeSet<PeerId>,
    /// Members of these groups.
    pub groups: BTreeSet<GroupId>,
}

impl Touched {
    /// True when no map is different.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.peers.is_empty() && self.groups.is_empty()
    }
}

/// What all services of an account open.
#[derive(Clone, Debug, Default)]
pub struct AccessIndex {
    services: HashMap<ServiceId, ServiceAccess>,
    clusters: BTreeMap<String, Cluster>,
}

#[derive(Clone, Debug, Default)]
struct Cluster {
    opened: BTreeMap<Opening, BTreeSet<Owner>>,
    private: BTreeMap<ServiceId, PrivateAccess>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Opening {
    peer: PeerId,
    udp: bool,
    port: u16,
}

/// Ports of a target that lie side by side and are opened together: one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenPorts<'a> {
    /// The target.
    pub(super) peer: &'a PeerId,
    /// What is spoken.
    pub(super) protocol: RuleProtocol,
    /// The first port.
    pub(super) first: u16,
    /// The last port.
    pub(super) last: u16,
    /// Who needs the first port, and gives its name to all.
    pub(super) owner: &'a Owner,
}

/// A service and path that needs an opening; the first one gives it its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    service: ServiceId,
    path: String,
}

impl Owner {
    pub(super) fn policy_id(&self, proxy: &PeerId) -> PolicyId {
        PolicyId::new(format!("proxy-access-{}-{proxy}-{}", self.service, self.path))
    }
}

impl AccessIndex {
    /// Puts in what a service is now; `None` takes it out. Tells whose maps may be different.
    pub fn replace(&mut self, id: &ServiceId, access: Option<ServiceAccess>) -> Touched {
        let mut touched = Touched::default();
        if self.services.get(id) == access.as_ref() {
            return touched;
        }
        if let Some(access) = &access {
            self.open(access, &mut touched);
        }
        let before = match access {
            Some(access) => self.services.insert(id.clone(), access),
            None => self.services.remove(id),
        };
        if let Some(before) = before {
            self.close(&before, self.services.get(id).cloned().as_ref(), &mut touched);
        }
        touched
    }

    /// True when the service is known here.
    pub fn contains(&self, id: &ServiceId) -> bool {
        self.services.contains_key(id)
    }

    /// What the proxies of a cluster may reach, in the order of targets.
    pub(super) fn opened_from<'a>(&'a self, cluster: &str) -> impl Iterator<Item = OpenPorts<'a>> {
        let cluster = self.clusters.get(cluster);
        side_by_side(cluster.into_iter().flat_map(|cluster| &cluster.opened))
    }

    /// What is opened towards a target, with the cluster it is opened from.
    pub(super) fn opened_to<'a>(
        &'a self,
        target: &'a PeerId,
    ) -> impl Iterator<Item = (&'a str, OpenPorts<'a>)> {
        let first = Opening {
            peer: target.clone(),
            udp: false,
            port: 0,
        };
        self.clusters.iter().flat_map(move |(name, cluster)| {
            let opened = cluster.opened.range(first.clone()..);
            let opened = opened.take_while(move |(opening, _)| &opening.peer == target);
            side_by_side(opened).map(move |ports| (name.as_str(), ports))
        })
    }

    /// Private services by cluster.
    pub(super) fn private_services(&self) -> impl Iterator<Item = (&str, &ServiceId, &PrivateAccess)> {
        self.clusters.iter().flat_map(|(name, cluster)| {
            cluster
                .private
                .iter()
                .map(move |(service, access)| (name.as_str(), service, access))
        })
    }

    /// Members of these groups use private services of the cluster.
    pub fn groups_using(&self, cluster: &str) -> BTreeSet<GroupId> {
        self.clusters
            .get(cluster)
            .into_iter()
            .flat_map(|cluster| cluster.private.values())
            .flat_map(|access| access.groups.iter().cloned())
            .collect()
    }

    /// Targets that the proxies of the cluster may reach.
    pub fn targets_of(&self, cluster: &str) -> BTreeSet<PeerId> {
        self.opened_from(cluster)
            .map(|ports| ports.peer.clone())
            .collect()
    }

    fn open(&mut self, access: &ServiceAccess, touched: &mut Touched) {
        let cluster = self.clusters.entry(access.cluster.clone()).or_default();
        for (opening, owner) in openings(access) {
            let owners = cluster.opened.entry(opening.clone()).or_default();
            let first = owners.first().cloned();
            owners.insert(owner);
            if owners.first() != first.as_ref() {
                touched.peers.insert(opening.peer);
                touched.clusters.insert(access.cluster.clone());
            }
        }
        if let Some(private) = &access.private
            && cluster.private.get(&access.id) != Some(private)
        {
            cluster.private.insert(access.id.clone(), private.clone());
            touched.groups.extend(private.groups.iter().cloned());
            touched.clusters.insert(access.cluster.clone());
        }
    }

    fn close(&mut self, before: &ServiceAccess, now: Option<&ServiceAccess>, touched: &mut Touched) {
        let Some(cluster) = self.clusters.get_mut(&before.cluster) else {
            return;
        };
        let now = now.filter(|now| now.cluster == before.cluster);
        let kept: BTreeSet<(Opening, Owner)> = now.into_iter().flat_map(openings).collect();
        for (opening, owner) in openings(before).filter(|pair| !kept.contains(pair)) {
            let Some(owners) = cluster.opened.get_mut(&opening) else {
                continue;
            };
            let was_first = owners.first() == Some(&owner);
            owners.remove(&owner);
            if owners.is_empty() {
                cluster.opened.remove(&opening);
            }
            if was_first {
                touched.peers.insert(opening.peer);
                touched.clusters.insert(before.cluster.clone());
            }
        }
        if let Some(private) = &before.private {
            let still = now.and_then(|now| now.private.as_ref());
            if still.is_none() {
                cluster.private.remove(&before.id);
            }
            if still != Some(private) {
                touched.groups.extend(private.groups.iter().cloned());
                touched.clusters.insert(before.cluster.clone());
            }
        }
        if cluster.opened.is_empty() && cluster.private.is_empty() {
            self.clusters.remove(&before.cluster);
        }
    }
}

/// Puts neighbouring ports together.
fn side_by_side<'a>(
    opened: impl Iterator<Item = (&'a Opening, &'a BTreeSet<Owner>)>,
) -> impl Iterator<Item = OpenPorts<'a>> {
    let mut opened = opened.peekable();
    std::iter::from_fn(move || {
        let (first, owner) = opened.find_map(|(opening, owners)| Some((opening, owners.first()?)))?;
        let mut last = first.port;
        let mut follows = |(next, _): &(&Opening, &BTreeSet<Owner>)| {
            let neighbour = last.checked_add(1) == Some(next.port);
            let follows = neighbour && next.udp == first.udp && next.peer == first.peer;
            if follows {
                last = next.port;
            }
            follows
        };
        while opened.next_if(&mut follows).is_some() {}
        Some(OpenPorts {
            peer: &first.peer,
            protocol: if first.udp {
                RuleProtocol::Udp
            } else {
                RuleProtocol::Tcp
            },
            first: first.port,
            last,
            owner,
        })
    })
}

fn openings(access: &ServiceAccess) -> impl Iterator<Item = (Opening, Owner)> {
    access
        .targets
        .iter()
        .filter(|target| target.port != 0)
        .map(|target| {
            let opening = Opening {
                peer: target.peer.clone(),
                udp: access.protocol == RuleProtocol::Udp,
                port: target.port,
            };
            let owner = Owner {
                service: access.id.clone(),
                path: target.path.clone(),
            };
            (opening, owner)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(id: &str, cluster: &str, targets: &[(&str, u16)]) -> ServiceAccess {
        ServiceAccess {
            id: ServiceId::new(id),
            cluster: cluster.to_owned(),
            protocol: RuleProtocol::Tcp,
            targets: targets
                .iter()
                .map(|&(peer, port)| PeerTarget {
                    peer: PeerId::new(peer),
                    port,
                    path: "/".to_owned(),
                })
                .collect(),
            private: None,
        }
    }

    fn put(index: &mut AccessIndex, access: ServiceAccess) -> Touched {
        index.replace(&access.id.clone(), Some(access))
    }

    #[test]
    fn a_second_service_on_the_same_port_touches_no_map() {
        let mut index = AccessIndex::default();

        let first = put(&mut index, service("a", "c", &[("p", 80)]));
        let second = put(&mut index, service("b", "c", &[("p", 80)]));

        assert_eq!(first.peers, BTreeSet::from([PeerId::new("p")]));
        assert!(second.is_empty());
        assert_eq!(index.opened_from("c").count(), 1);
    }

    #[test]
    fn a_port_closes_with_its_last_service() {
        let mut index = AccessIndex::default();
        put(&mut index, service("a", "c", &[("p", 80)]));
        put(&mut index, service("b", "c", &[("p", 80)]));

        let not_last = index.replace(&ServiceId::new("b"), None);
        let last = index.replace(&ServiceId::new("a"), None);

        assert!(not_last.is_empty());
        assert!(last.clusters.contains("c"));
        assert_eq!(index.opened_from("c").count(), 0);
        assert!(index.clusters.is_empty());
    }

    #[test]
    fn moving_to_another_cluster_touches_both() {
        let mut index = AccessIndex::default();
        put(&mut index, service("a", "c", &[("p", 80)]));

        let touched = put(&mut index, service("a", "d", &[("p", 80)]));

        assert_eq!(touched.clusters, BTreeSet::from(["c".to_owned(), "d".to_owned()]));
        assert_eq!(index.opened_from("c").count(), 0);
        assert_eq!(index.opened_from("d").count(), 1);
    }

    #[test]
    fn ports_side_by_side_make_one_rule() {
        let mut index = AccessIndex::default();
        for (id, peer, port) in [
            ("c", "p", 82),
            ("a", "p", 80),
            ("e", "q", 83),
            ("b", "p", 81),
            ("d", "p", 84),
            ("f", "p", u16::MAX),
        ] {
            put(&mut index, service(id, "c", &[(peer, port)]));
        }
        let mut udp = service("u", "c", &[("p", 85)]);
        udp.protocol = RuleProtocol::Udp;
        put(&mut index, udp);

        let ports = |opened: OpenPorts<'_>| (opened.first, opened.last, opened.owner.service.to_string());
        let target = PeerId::new("p");
        let to_target: Vec<_> = index
            .opened_to(&target)
            .map(|(_, opened)| ports(opened))
            .collect();

        let range = |first, last, owner: &str| (first, last, owner.to_owned());
        let wanted = [
            range(80, 82, "a"),
            range(84, 84, "d"),
            range(u16::MAX, u16::MAX, "f"),
            range(85, 85, "u"),
        ];
        assert_eq!(to_target, wanted);
        let from_cluster: Vec<_> = index.opened_from("c").map(ports).collect();
        assert_eq!(from_cluster[..4], wanted);
        assert_eq!(from_cluster[4..], [range(83, 83, "e")]);
    }

    proptest! {
        #[test]
        fn steps_lead_to_the_same_index_as_starting_afresh(
            steps in proptest::collection::vec((0u8..4, 0u8..3, proptest::collection::vec((0u8..3, 0u16..3), 0..3)), 1..30),
        ) {
            let mut index = AccessIndex::default();
            let mut last = BTreeMap::new();
            for (id, cluster, targets) in steps {
                let id = format!("s{id}");
                let names: Vec<(String, u16)> = targets.iter().map(|(peer, port)| (format!("p{peer}"), *port)).collect();
                let targets: Vec<(&str, u16)> = names.iter().map(|(peer, port)| (peer.as_str(), *port)).collect();
                let access = (cluster != 2).then(|| service(&id, &format!("c{cluster}"), &targets));
                index.replace(&ServiceId::new(&id), access.clone());
                last.insert(id, access);
            }
            let mut fresh = AccessIndex::default();
            for (id, access) in last {
                fresh.replace(&ServiceId::new(id), access);
            }

            for cluster in ["c0", "c1"] {
                let ours: Vec<_> = index.opened_from(cluster).collect();
                let wanted: Vec<_> = fresh.opened_from(cluster).collect();
                prop_assert_eq!(ours, wanted);
            }
        }
    }
}
