//! Clusters: proxies that share one public address, which of them serve an account, and what they can do.
//!
//! A cluster exists through its proxies: it is active while one of them is connected and was seen in the last
//! two minutes.

pub mod derive;

use std::collections::BTreeMap;
use std::time::Duration;

use meshgate_proto::{ProxyCapabilities, UnixTime};

use crate::actor::Scope;
use crate::store::proxies::ProxyRow;
use crate::store::{Store, StoreError};

pub use derive::{CustomDomain, DerivedCluster, derive_cluster};

/// A proxy that was not seen for this long does not count.
pub const ACTIVE_WINDOW: Duration = Duration::from_mins(2);

/// Whose proxies a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterOwner {
    /// At least one belongs to the account.
    Account,
    /// All serve everybody.
    Shared,
}

impl ClusterOwner {
    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Shared => "shared",
        }
    }
}

/// What a cluster as a whole can do; `None` means that no proxy of it said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterCapabilities {
    /// Any proxy lets TCP and UDP services choose ports.
    pub custom_ports: Option<bool>,
    /// Any proxy refuses services on the cluster's own name.
    pub require_subdomain: Option<bool>,
    /// Every proxy can ask for reputation.
    pub crowdsec: Option<bool>,
    /// Any proxy listens inside the tunnel.
    pub private: Option<bool>,
}

/// A cluster that serves an account now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its address: domain name or IP address, in lower case.
    pub address: String,
    /// Whose proxies it has.
    pub owner: ClusterOwner,
    /// How many of them are active.
    pub connected_proxies: usize,
    /// What they can do together.
    pub capabilities: ClusterCapabilities,
}

/// The clusters that serve an account now: those with proxies of its own first, each kind by address.
pub async fn reachable(store: &Store, scope: &Scope, now: UnixTime) -> Result<Vec<Cluster>, StoreError> {
    let proxies = store
        .proxies_serving(scope, now.saturating_sub(ACTIVE_WINDOW))
        .await?;
    Ok(aggregate(&proxies))
}

/// Makes clusters of the proxies that serve one account.
pub fn aggregate(proxies: &[ProxyRow]) -> Vec<Cluster> {
    let mut by_address: BTreeMap<&str, Vec<&ProxyRow>> = BTreeMap::new();
    for proxy in proxies {
        by_address.entry(&proxy.cluster_address).or_default().push(proxy);
    }
    let mut clusters: Vec<Cluster> = by_address
        .into_iter()
        .map(|(address, proxies)| cluster(address, &proxies))
        .collect();
    clusters.sort_by_key(|cluster| cluster.owner);
    clusters
}

fn cluster(address: &str, proxies: &[&ProxyRow]) -> Cluster {
    let own = proxies.iter().any(|proxy| proxy.account.is_some());
    Cluster {
        address: address.to_owned(),
        owner: if own {
            ClusterOwner::Account
        } else {
            ClusterOwner::Shared
        },
        connected_proxies: proxies.len(),
        capabilities: ClusterCapabilities {
            custom_ports: any(proxies, |c| c.custom_ports),
            require_subdomain: any(proxies, |c| c.require_subdomain),
            crowdsec: all(proxies, |c| c.crowdsec),
            private: any(proxies, |c| c.private),
        },
    }
}

fn any(proxies: &[&ProxyRow], of: impl Fn(&ProxyCapabilities) -> Option<bool>) -> Option<bool> {
    proxies
        .iter()
        .filter_map(|proxy| of(&proxy.capabilities))
        .reduce(|a, b| a || b)
}

/// A proxy that says nothing cannot, unless nobody says anything.
fn all(proxies: &[&ProxyRow], of: impl Fn(&ProxyCapabilities) -> Option<bool>) -> Option<bool> {
    let said: Vec<Option<bool>> = proxies.iter().map(|proxy| of(&proxy.capabilities)).collect();
    let anybody = said.iter().any(Option::is_some);
    anybody.then(|| said.iter().all(|answer| *answer == Some(true)))
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{AccountId, ProxyId};

    use super::*;

    fn proxy(id: &str, address: &str, account: Option<&str>, capabilities: ProxyCapabilities) -> ProxyRow {
        ProxyRow {
            id: ProxyId::new(id),
            session_id: "s".to_owned(),
            cluster_address: address.to_owned(),
            ip_address: String::new(),
            account: account.map(AccountId::new),
            last_seen: UnixTime::EPOCH,
            connected_at: UnixTime::EPOCH,
            disconnected_at: None,
            connected: true,
            version: String::new(),
            capabilities,
        }
    }

    fn says(custom_ports: Option<bool>, crowdsec: Option<bool>) -> ProxyCapabilities {
        ProxyCapabilities {
            custom_ports,
            crowdsec,
            ..ProxyCapabilities::default()
        }
    }

    #[test]
    fn ports_need_one_proxy_and_reputation_needs_all() {
        let clusters = aggregate(&[
            proxy("a", "one.test", None, says(Some(true), Some(true))),
            proxy("b", "one.test", None, says(Some(false), None)),
        ]);

        assert_eq!(clusters.len(), 1);
        assert_eq!(clusters[0].connected_proxies, 2);
        assert_eq!(clusters[0].capabilities.custom_ports, Some(true));
        assert_eq!(clusters[0].capabilities.crowdsec, Some(false));
        assert_eq!(clusters[0].capabilities.private, None);
    }

    #[test]
    fn nobody_said_anything_is_unknown() {
        let clusters = aggregate(&[proxy("a", "one.test", None, says(None, None))]);

        assert_eq!(clusters[0].capabilities, ClusterCapabilities::default());
    }

    #[test]
    fn own_clusters_stand_before_shared_ones() {
        let none = ProxyCapabilities::default();
        let clusters = aggregate(&[
            proxy("a", "a.test", None, none),
            proxy("b", "b.test", Some("acc"), none),
            proxy("c", "b.test", None, none),
        ]);

        let seen: Vec<_> = clusters
            .iter()
            .map(|c| (c.address.as_str(), c.owner, c.connected_proxies))
            .collect();
        assert_eq!(
            seen,
            [
                ("b.test", ClusterOwner::Account, 2),
                ("a.test", ClusterOwner::Shared, 1)
            ]
        );
    }
}
