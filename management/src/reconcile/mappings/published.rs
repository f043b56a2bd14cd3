//! What a proxy knows, and the steps from there to what it should know.

use std::collections::HashMap;

use meshgate_proto::{AccountId, Mapping, MappingChange, Removal, ServiceId};

/// The mappings that one proxy was sent on this connection.
#[derive(Debug, Default)]
pub struct Published(HashMap<ServiceId, Mapping>);

impl Published {
    /// The changes that bring a service to `desired`, in order; none when the proxy has it like that.
    ///
    /// A change of domain is a removal and a creation, because proxies keep routes by domain.
    pub fn update(
        &mut self,
        account: &AccountId,
        id: &ServiceId,
        desired: Option<Mapping>,
    ) -> Vec<MappingChange> {
        let known = self.0.get(id);
        let Some(desired) = desired else {
            return self
                .0
                .remove(id)
                .map(|known| removed(account, &known))
                .into_iter()
                .collect();
        };
        let changes = match known {
            None => vec![MappingChange::Created(Box::new(desired.clone()))],
            Some(known) if known.says_the_same_as(&desired) => return Vec::new(),
            Some(known) if known.domain != desired.domain || known.mode != desired.mode => {
                vec![
                    removed(account, known),
                    MappingChange::Created(Box::new(desired.clone())),
                ]
            }
            Some(_) => vec![MappingChange::Modified(Box::new(desired.clone()))],
        };
        self.0.insert(id.clone(), desired);
        changes
    }
}

fn removed(account: &AccountId, known: &Mapping) -> MappingChange {
    MappingChange::Removed(Removal {
        id: known.id.clone(),
        account_id: account.clone(),
        domain: Some(known.domain.clone()),
    })
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{Authentication, DomainName, Restrictions, Secret, ServiceMode};

    use super::*;

    fn mapping(domain: &str, listen_port: u16) -> Mapping {
        Mapping {
            id: ServiceId::new("s"),
            account_id: AccountId::new("a"),
            domain: DomainName::new(domain).unwrap(),
            mode: ServiceMode::Http,
            listen_port,
            paths: Vec::new(),
            auth_token: Secret::default(),
            auth: Authentication::default(),
            restrictions: Restrictions::default(),
            pass_host_header: false,
            rewrite_redirects: false,
            private: false,
        }
    }

    fn step(published: &mut Published, desired: Option<Mapping>) -> Vec<&'static str> {
        let changes = published.update(&AccountId::new("a"), &ServiceId::new("s"), desired);
        let word = |change: &MappingChange| match change {
            MappingChange::Created(_) => "created",
            MappingChange::Modified(_) => "modified",
            MappingChange::Removed(_) => "removed",
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn says_only_what_makes_a_difference() {
        let mut published = Published::default();

        assert!(step(&mut published, None).is_empty());
        assert_eq!(step(&mut published, Some(mapping("a.test", 0))), ["created"]);
        assert!(step(&mut published, Some(mapping("a.test", 0))).is_empty());
        assert_eq!(step(&mut published, Some(mapping("a.test", 1))), ["modified"]);
        assert_eq!(
            step(&mut published, Some(mapping("b.test", 1))),
            ["removed", "created"]
        );
        assert_eq!(step(&mut published, None), ["removed"]);
        assert!(step(&mut published, None).is_empty());
    }

    #[test]
    fn a_new_token_alone_is_no_change() {
        let mut published = Published::default();
        step(&mut published, Some(mapping("a.test", 0)));
        let other_token = Mapping {
            auth_token: "fresh".into(),
            ..mapping("a.test", 0)
        };

        assert!(step(&mut published, Some(other_token)).is_empty());
    }
}
