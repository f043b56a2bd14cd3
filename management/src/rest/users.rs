//! `/api/users/current`: who the caller is and what he may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use serde::Serialize;

use super::answer::{Answer, moment_or_never};
use super::caller::Caller;
use super::error::RestError;
use crate::authz::{Module, Operation, Role, allows};
use crate::error::UseCaseError;
use crate::state::State;

/// Modules that dashboards know and that are not here: nobody may do anything with them.
const ABSENT_MODULES: [&str; 8] = [
    "agent_network",
    "agent_network.budgets",
    "agent_network.guardrails",
    "agent_network.logs",
    "agent_network.policies",
    "agent_network.providers",
    "agent_network.settings",
    "agent_network.usage",
];

/// A user as the API shows him to himself.
#[derive(Debug, Serialize)]
pub(super) struct CurrentUser {
    id: String,
    email: String,
    name: String,
    role: &'static str,
    status: &'static str,
    last_login: String,
    auto_groups: Vec<String>,
    is_current: bool,
    is_service_user: bool,
    is_blocked: bool,
    pending_approval: bool,
    issued: String,
    idp_id: &'static str,
    permissions: Permissions,
}

#[derive(Debug, Serialize)]
struct Permissions {
    is_restricted: bool,
    modules: BTreeMap<&'static str, BTreeMap<&'static str, bool>>,
}

pub(super) async fn current(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
) -> Result<Answer<CurrentUser>, RestError> {
    if actor.is_service_user() {
        return Err(UseCaseError::permission_denied().into());
    }
    let user = state.store.user(actor.scope(), actor.user()).await?;
    let user = user.ok_or_else(|| UseCaseError::not_found("user"))?;
    let account = state.store.account(actor.scope()).await?;
    let account = account.ok_or_else(|| UseCaseError::not_found("account"))?;
    let unseal = |text: &str| state.at_rest.unseal(text).map_err(UseCaseError::internal);
    Ok(Answer(CurrentUser {
        email: unseal(&user.email)?.expose().clone(),
        name: unseal(&user.name)?.expose().clone(),
        id: user.id.into_string(),
        role: user.role.as_str(),
        status: if user.blocked { "blocked" } else { "active" },
        last_login: moment_or_never(user.last_login),
        auto_groups: user.auto_groups,
        is_current: true,
        is_service_user: user.is_service_user,
        is_blocked: user.blocked,
        pending_approval: user.pending_approval,
        issued: user.issued,
        idp_id: "local",
        permissions: Permissions {
            is_restricted: user.role == Role::User && account.settings.regular_users_view_blocked,
            modules: modules(user.role),
        },
    }))
}

fn modules(role: Role) -> BTreeMap<&'static str, BTreeMap<&'static str, bool>> {
    let operations = |allowed: &dyn Fn(Operation) -> bool| {
        Operation::ALL
            .into_iter()
            .map(|operation| (operation.as_str(), allowed(operation)))
            .collect()
    };
    let known = Module::ALL.into_iter().map(|module| {
        (
            module.as_str(),
            operations(&|operation| allows(role, module, operation)),
        )
    });
    let absent = ABSENT_MODULES
        .into_iter()
        .map(|name| (name, operations(&|_| false)));
    known.chain(absent).collect()
}
