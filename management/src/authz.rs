//! Who may do what: roles × modules. Pure.

use crate::actor::Actor;
use crate::error::UseCaseError;

/// What a user is in his account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything but changing the account itself.
    Admin,
    /// Only himself.
    User,
    /// Nothing here: bills are elsewhere.
    BillingAdmin,
    /// Reads everything.
    Auditor,
    /// Networks, groups and names.
    NetworkAdmin,
}

impl Role {
    const ALL: [Self; 6] = [
        Self::Owner,
        Self::Admin,
        Self::User,
        Self::BillingAdmin,
        Self::Auditor,
        Self::NetworkAdmin,
    ];

    /// The word of the REST API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::User => "user",
            Self::BillingAdmin => "billing_admin",
            Self::Auditor => "auditor",
            Self::NetworkAdmin => "network_admin",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// What permissions are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Module {
    /// Networks, resources and routers.
    Networks,
    /// Peers.
    Peers,
    /// Jobs on peers.
    RemoteJobs,
    /// Groups.
    Groups,
    /// Account settings.
    Settings,
    /// The account itself.
    Accounts,
    /// Zones and DNS settings.
    Dns,
    /// Nameservers.
    Nameservers,
    /// Audit events.
    Events,
    /// Policies and posture checks.
    Policies,
    /// Routes.
    Routes,
    /// Users.
    Users,
    /// Setup keys.
    SetupKeys,
    /// Personal access tokens.
    Pats,
    /// Identity providers.
    IdentityProviders,
    /// Services, their domains, clusters, proxy tokens and access logs.
    Services,
}

impl Module {
    /// Every module.
    pub const ALL: [Self; 16] = [
        Self::Networks,
        Self::Peers,
        Self::RemoteJobs,
        Self::Groups,
        Self::Settings,
        Self::Accounts,
        Self::Dns,
        Self::Nameservers,
        Self::Events,
        Self::Policies,
        Self::Routes,
        Self::Users,
        Self::SetupKeys,
        Self::Pats,
        Self::IdentityProviders,
        Self::Services,
    ];

    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Peers => "peers",
            Self::RemoteJobs => "remote_jobs",
            Self::Groups => "groups",
            Self::Settings => "settings",
            Self::Accounts => "accounts",
            Self::Dns => "dns",
            Self::Nameservers => "nameservers",
            Self::Events => "events",
            Self::Policies => "policies",
            Self::Routes => "routes",
            Self::Users => "users",
            Self::SetupKeys => "setup_keys",
            Self::Pats => "pats",
            Self::IdentityProviders => "identity_providers",
            Self::Services => "services",
        }
    }
}

/// What is done to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Look.
    Read,
    /// Make.
    Create,
    /// Change.
    Update,
    /// Remove.
    Delete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Read, Self::Create, Self::Update, Self::Delete];

    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Lets the actor pass, or says that he may not.
pub fn require(actor: &Actor, module: Module, operation: Operation) -> Result<(), UseCaseError> {
    let service_read = actor.is_service_user() && operation == Operation::Read;
    if service_read || allows(actor.role(), module, operation) {
        Ok(())
    } else {
        Err(UseCaseError::permission_denied())
    }
}

/// Whether the role alone allows it.
pub fn allows(role: Role, module: Module, operation: Operation) -> bool {
    let read = operation == Operation::Read;
    match role {
        Role::Owner => true,
        Role::Admin => read || module != Module::Accounts,
        Role::Auditor => read,
        Role::User | Role::BillingAdmin => false,
        Role::NetworkAdmin => match module {
            Module::Networks
            | Module::Groups
            | Module::Dns
            | Module::Nameservers
            | Module::Policies
            | Module::Routes
            | Module::Pats => true,
            Module::Settings
            | Module::Accounts
            | Module::Events
            | Module::Users
            | Module::SetupKeys
            | Module::Peers
            | Module::IdentityProviders => read,
            Module::Services | Module::RemoteJobs => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{AccountId, UserId};

    use super::*;
    use crate::actor::Scope;

    #[test]
    fn an_admin_changes_everything_but_the_account() {
        assert!(allows(Role::Admin, Module::Services, Operation::Delete));
        assert!(allows(Role::Admin, Module::Accounts, Operation::Read));
        assert!(!allows(Role::Admin, Module::Accounts, Operation::Delete));
    }

    #[test]
    fn a_network_admin_does_not_even_see_services() {
        assert!(!allows(Role::NetworkAdmin, Module::Services, Operation::Read));
        assert!(allows(Role::NetworkAdmin, Module::SetupKeys, Operation::Read));
        assert!(!allows(Role::NetworkAdmin, Module::SetupKeys, Operation::Create));
    }

    #[test]
    fn a_service_user_reads_whatever_his_role() {
        let scope = Scope::authenticated(AccountId::new("a"));
        let actor = Actor::authenticated(scope, UserId::new("u"), Role::User, true);

        assert!(require(&actor, Module::Services, Operation::Read).is_ok());
        assert!(require(&actor, Module::Services, Operation::Create).is_err());
    }

    #[test]
    fn every_role_is_read_back_from_its_word() {
        for role in Role::ALL {
            assert_eq!(Role::from_word(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_word("king"), None);
    }
}
