//! From a service's domain to the cluster that serves it.

use meshgate_proto::DomainName;

use super::Cluster;

/// A domain that an operator brought along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomDomain {
    /// The domain.
    pub domain: DomainName,
    /// The cluster it points to.
    pub target_cluster: String,
    /// Its owner has proved that it does.
    pub validated: bool,
}

/// Where a service's domain leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedCluster {
    /// The cluster's address.
    pub address: String,
    /// The domain is the cluster's own name, which some clusters refuse.
    pub is_apex: bool,
}

/// Finds the cluster of a domain.
///
/// The name of a cluster or a name below it leads to that cluster; the longest name wins, and of equals the one
/// that stands first. Otherwise the longest validated custom domain decides. Custom domains that are not
/// validated lead nowhere.
pub fn derive_cluster(
    domain: &DomainName,
    clusters: &[Cluster],
    custom: &[CustomDomain],
) -> Option<DerivedCluster> {
    let mut best: Option<(&Cluster, DomainName)> = None;
    for cluster in clusters {
        let Ok(name) = DomainName::new(&cluster.address) else {
            continue;
        };
        let longer = best
            .as_ref()
            .is_none_or(|(_, other)| name.as_str().len() > other.as_str().len());
        if longer && domain.is_within(&name) {
            best = Some((cluster, name));
        }
    }
    if let Some((cluster, name)) = best {
        return Some(DerivedCluster {
            address: cluster.address.clone(),
            is_apex: name == *domain,
        });
    }
    custom
        .iter()
        .filter(|candidate| candidate.validated && domain.is_within(&candidate.domain))
        .max_by_key(|candidate| candidate.domain.as_str().len())
        .map(|candidate| DerivedCluster {
            address: candidate.target_cluster.clone(),
            is_apex: false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::{ClusterCapabilities, ClusterOwner};

    fn name(text: &str) -> DomainName {
        DomainName::new(text).unwrap()
    }

    fn cluster(address: &str) -> Cluster {
        Cluster {
            address: address.to_owned(),
            owner: ClusterOwner::Shared,
            connected_proxies: 1,
            capabilities: ClusterCapabilities::default(),
        }
    }

    fn custom(domain: &str, target: &str, validated: bool) -> CustomDomain {
        CustomDomain {
            domain: name(domain),
            target_cluster: target.to_owned(),
            validated,
        }
    }

    #[test]
    fn names_at_and_below_a_cluster_are_served_by_it() {
        let clusters = [
            cluster("proxy.test"),
            cluster("eu.proxy.test"),
            cluster("192.0.2.1"),
        ];
        let derived =
            |domain: &str| derive_cluster(&name(domain), &clusters, &[]).map(|d| (d.address, d.is_apex));

        assert_eq!(derived("a.proxy.test"), Some(("proxy.test".to_owned(), false)));
        assert_eq!(derived("proxy.test"), Some(("proxy.test".to_owned(), true)));
        assert_eq!(
            derived("a.eu.proxy.test"),
            Some(("eu.proxy.test".to_owned(), false))
        );
        assert_eq!(derived("aproxy.test"), None);
    }

    #[test]
    fn only_validated_custom_domains_lead_somewhere() {
        let clusters = [cluster("proxy.test")];
        let custom = [
            custom("shop.example", "proxy.test", true),
            custom("eu.shop.example", "eu.proxy.test", true),
            custom("new.shop.example", "evil.test", false),
        ];
        let derived = |domain: &str| derive_cluster(&name(domain), &clusters, &custom).map(|d| d.address);

        assert_eq!(derived("a.eu.shop.example").as_deref(), Some("eu.proxy.test"));
        assert_eq!(derived("a.new.shop.example").as_deref(), Some("proxy.test"));
        assert_eq!(derived("other.example"), None);
    }
}
