//! Services: what is published, where it leads and who may pass.
//!
//! [`check`] is the pure part: from what a caller wrote to what can be stored. The use-cases look up what a
//! service refers to, hash its secrets, choose its cluster and port, and tell the change after the commit.

pub mod check;
pub(crate) mod go_duration;
pub mod input;
mod placement;
mod ports;
mod protect;
mod publish;
mod record;
pub mod statuses;

use std::collections::HashMap;
use std::net::Ipv4Addr;

use meshgate_proto::ServiceId;

use crate::actor::Actor;
use crate::authz::{Module, Operation, require};
use crate::changes::Change;
use crate::error::UseCaseError;
use crate::state::State;
use crate::store::Store;
use crate::store::service_records::{ServiceRecord, TargetRow, TargetType};

pub use input::ServiceInput;
pub use publish::{create, update};

/// A service as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// The service and its targets.
    pub record: ServiceRecord,
    /// The overlay addresses of the peers it leads to.
    pub addresses: HashMap<String, Ipv4Addr>,
}

impl ServiceView {
    /// Where a target is dialled; `unknown` when what it refers to is gone.
    pub fn host_of(&self, target: &TargetRow) -> String {
        match target.target_type {
            TargetType::Subnet | TargetType::Cluster => target.host.clone(),
            TargetType::Peer | TargetType::Host | TargetType::Domain => self
                .addresses
                .get(&target.target_id)
                .map_or_else(|| "unknown".to_owned(), Ipv4Addr::to_string),
        }
    }
}

/// Lists the services of the account.
pub async fn list(store: &Store, actor: &Actor) -> Result<Vec<ServiceView>, UseCaseError> {
    require(actor, Module::Services, Operation::Read)?;
    let records = store.services(actor.scope()).await?;
    let addresses = store.target_addresses(actor.scope()).await?;
    let view = |record: ServiceRecord| {
        let of = |target: &TargetRow| {
            let address = addresses.get(&target.target_id)?;
            Some((target.target_id.clone(), *address))
        };
        ServiceView {
            addresses: record.targets.iter().filter_map(of).collect(),
            record,
        }
    };
    Ok(records.into_iter().map(view).collect())
}

/// Shows one service.
pub async fn get(store: &Store, actor: &Actor, id: &ServiceId) -> Result<ServiceView, UseCaseError> {
    require(actor, Module::Services, Operation::Read)?;
    let record = store.service(actor.scope(), id).await?.ok_or_else(not_found)?;
    view(store, actor, record).await
}

/// Removes a service. Its sessions end with it.
pub async fn delete(state: &State, actor: &Actor, id: &ServiceId) -> Result<(), UseCaseError> {
    require(actor, Module::Services, Operation::Delete)?;
    let mut tx = state.store.begin().await?;
    let service = tx
        .delete_service(actor.scope(), id)
        .await?
        .ok_or_else(not_found)?;
    tx.commit().await?;
    state.changes.publish(Change::ServiceRemoved {
        account: service.account_id,
        service: service.id,
        cluster: service.proxy_cluster,
    });
    Ok(())
}

async fn view(store: &Store, actor: &Actor, record: ServiceRecord) -> Result<ServiceView, UseCaseError> {
    let addresses = store
        .target_addresses_of_service(actor.scope(), &record.service.id)
        .await?;
    Ok(ServiceView { record, addresses })
}

fn not_found() -> UseCaseError {
    UseCaseError::not_found("service")
}

#[cfg(test)]
mod tests;
