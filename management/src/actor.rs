//! Whose data and on whose behalf. Both values can only be had from authentication.

use meshgate_proto::{AccountId, UserId};

use crate::authz::Role;

/// One account: every statement of the store is confined to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(AccountId);

impl Scope {
    /// The account somebody has just proved to belong to.
    ///
    /// For authentication only: personal access tokens, proxy tokens, peer keys, setup keys, and the
    /// reconcilers, which act for the server itself.
    pub(crate) fn authenticated(account: AccountId) -> Self {
        Self(account)
    }

    /// The account.
    pub fn account(&self) -> &AccountId {
        &self.0
    }
}

/// A user who has proved who he is.
#[derive(Clone, Debug)]
pub struct Actor {
    scope: Scope,
    user: UserId,
    role: Role,
    service_user: bool,
}

impl Actor {
    /// What authentication found out.
    pub(crate) fn authenticated(scope: Scope, user: UserId, role: Role, service_user: bool) -> Self {
        Self {
            scope,
            user,
            role,
            service_user,
        }
    }

    /// His account.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Who he is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// His role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// He is a program.
    pub fn is_service_user(&self) -> bool {
        self.service_user
    }
}
