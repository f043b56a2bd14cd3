//! Making accounts: owner, group All, the default policy and the overlay's address ranges.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use meshgate_proto::{AccountId, Cidr, GroupId, PolicyId, UnixTime, UserId, Xid};
use rand::Rng;
use uuid::Uuid;

use crate::actor::Scope;
use crate::authz::Role;
use crate::secrets::AtRest;
use crate::store::accounts::{AccountRow, AccountSettings};
use crate::store::groups::{ALL, GroupRow};
use crate::store::policies::{PolicyRow, PolicyRuleRow};
use crate::store::users::UserRow;
use crate::store::{StoreError, Tx};

/// Who gets a new account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOwner {
    /// His name.
    pub name: String,
    /// His e-mail address.
    pub email: String,
}

/// An account that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Its scope.
    pub scope: Scope,
    /// Its owner.
    pub owner: UserId,
    /// Its group All.
    pub all: GroupId,
}

/// Makes an account with everything a new one has.
pub(crate) async fn create(
    tx: &mut Tx,
    at_rest: &AtRest,
    domain: &str,
    owner: &NewOwner,
    now: UnixTime,
) -> Result<NewAccount, StoreError> {
    let account_id = AccountId::from(Xid::generate(now));
    let scope = Scope::authenticated(account_id.clone());
    let user = local_user_id(Uuid::new_v4());
    let account = AccountRow {
        id: account_id.clone(),
        created_by: user.clone(),
        created_at: now,
        domain: domain.to_owned(),
        domain_category: "private".to_owned(),
        network_identifier: Xid::generate(now).to_string(),
        network_v4: random_v4_range(&mut rand::rng()),
        network_v6: random_v6_range(&mut rand::rng()),
        network_serial: 0,
        settings: AccountSettings::default(),
    };
    tx.insert_account(&account).await?;
    tx.insert_user(&UserRow {
        id: user.clone(),
        account_id: account_id.clone(),
        role: Role::Owner,
        is_service_user: false,
        non_deletable: false,
        service_user_name: String::new(),
        auto_groups: Vec::new(),
        blocked: false,
        pending_approval: false,
        last_login: None,
        created_at: now,
        issued: "api".to_owned(),
        name: at_rest.seal(&owner.name),
        email: at_rest.seal(&owner.email),
    })
    .await?;
    let all = GroupId::from(Xid::generate(now));
    tx.insert_group(&GroupRow {
        id: all.clone(),
        account_id: account_id.clone(),
        name: ALL.to_owned(),
        issued: "api".to_owned(),
        resources: Vec::new(),
        created_at: now,
    })
    .await?;
    tx.insert_policy(&default_policy(account_id, &all, now)).await?;
    Ok(NewAccount {
        scope,
        owner: user,
        all,
    })
}

fn default_policy(account_id: AccountId, all: &GroupId, now: UnixTime) -> PolicyRow {
    let id = PolicyId::from(Xid::generate(now));
    let description = "This is a default rule that allows connections between all the resources";
    PolicyRow {
        id: id.clone(),
        account_id,
        name: "Default".to_owned(),
        description: description.to_owned(),
        enabled: true,
        source_posture_checks: Vec::new(),
        created_at: now,
        rules: vec![PolicyRuleRow {
            id: id.into_string(),
            name: "Default".to_owned(),
            description: description.to_owned(),
            enabled: true,
            action: "accept".to_owned(),
            bidirectional: true,
            protocol: "all".to_owned(),
            sources: vec![all.clone()],
            destinations: vec![all.clone()],
            source_resource: None,
            destination_resource: None,
            ports: Vec::new(),
            port_ranges: Vec::new(),
            authorized_groups: std::collections::BTreeMap::new(),
        }],
    }
}

/// The id by which identity tokens will name a user who logs in with a local password: base64 of the two
/// protobuf strings user id and connector id.
fn local_user_id(uuid: Uuid) -> UserId {
    const CONNECTOR: &[u8] = b"local";
    let user = uuid.to_string();
    let mut bytes = vec![0x0a, 36];
    bytes.extend_from_slice(user.as_bytes());
    bytes.extend_from_slice(&[0x12, 5]);
    bytes.extend_from_slice(CONNECTOR);
    UserId::new(STANDARD_NO_PAD.encode(bytes))
}

/// A /16 inside `100.64.0.0/10`, the range for addresses between providers and customers (RFC 6598).
pub(crate) fn random_v4_range(rng: &mut impl Rng) -> Cidr {
    let second = rng.random_range(64..128);
    Cidr::new(Ipv4Addr::new(100, second, 0, 0).into(), 16).expect("no bits behind the prefix")
}

/// A /64 inside `fd00::/8`, the range for addresses of one's own choice (RFC 4193).
pub(crate) fn random_v6_range(rng: &mut impl Rng) -> Cidr {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes[1..8]);
    bytes[0] = 0xfd;
    Cidr::new(Ipv6Addr::from(bytes).into(), 64).expect("no bits behind the prefix")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    #[test]
    fn ranges_are_inside_the_ranges_meant_for_it() {
        let v4: Cidr = "100.64.0.0/10".parse().unwrap();
        let v6: Cidr = "fd00::/8".parse().unwrap();
        for _ in 0..500 {
            assert!(v4.contains(random_v4_range(&mut rand::rng()).address()));
            assert!(v6.contains(random_v6_range(&mut rand::rng()).address()));
        }
    }

    #[test]
    fn a_local_user_is_named_as_identity_tokens_will_name_him() {
        let id = local_user_id(Uuid::nil());

        assert_eq!(
            id.as_str(),
            "CiQwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDASBWxvY2Fs"
        );
    }

    #[tokio::test]
    async fn a_new_account_has_owner_group_and_policy() {
        let world = World::new().await;

        let account = world.account().await;

        let store = &world.state.store;
        let users = store.users(&account.scope).await.unwrap();
        assert_eq!(users.len(), 1);
        assert_eq!(users[0].role, Role::Owner);
        assert_ne!(users[0].email, "a@example.test");
        let groups = store.groups(&account.scope).await.unwrap();
        assert_eq!(
            groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(),
            [ALL]
        );
        assert_eq!(groups[0].id, account.all);
    }
}
