//! Making and changing services.

use std::collections::HashSet;

use meshgate_proto::{DomainName, PeerId, ServiceId};

use super::check::{CheckedService, check};
use super::placement::{allow_port, assign_port, cluster_after, find_cluster, keep_port};
use super::record::{changed_record, new_record};
use super::{ServiceInput, ServiceView, not_found, protect, view};
use crate::actor::{Actor, Scope};
use crate::authz::{Module, Operation, require};
use crate::changes::Change;
use crate::error::UseCaseError;
use crate::state::State;
use crate::store::Tx;
use crate::store::service_records::{ServiceAuth, ServiceRow, TargetRow, TargetType};

/// Makes a service.
pub async fn create(state: &State, actor: &Actor, input: ServiceInput) -> Result<ServiceView, UseCaseError> {
    let checked = check(input)?;
    require(actor, Module::Services, Operation::Create)?;
    let now = state.clock.now();
    let cluster = find_cluster(state, actor.scope(), &checked.domain, now).await?;
    if checked.listen_port != 0 {
        allow_port(&cluster, checked.mode)?;
    }
    let nothing = ServiceAuth::default();
    let auth = protect::hash(state.passwords.as_ref(), checked.auth.clone(), &nothing).await?;
    let mut record = new_record(state, actor.scope(), checked, cluster.address, now);

    let mut tx = state.store.begin().await?;
    record.service.auth = auth.merge(&nothing)?;
    check_references(&mut tx, actor.scope(), &record.targets).await?;
    refuse_taken(&mut tx, &record.service.domain).await?;
    assign_port(state, &mut tx, &mut record.service).await?;
    tx.insert_service(&record).await?;
    tx.commit().await?;

    tell(state, &record.service);
    view(&state.store, actor, record).await
}

/// Replaces what an operator may change of a service. Secrets that are left empty stay.
pub async fn update(
    state: &State,
    actor: &Actor,
    id: &ServiceId,
    input: ServiceInput,
) -> Result<ServiceView, UseCaseError> {
    let checked = check(input)?;
    require(actor, Module::Services, Operation::Update)?;
    let before = state
        .store
        .service(actor.scope(), id)
        .await?
        .ok_or_else(not_found)?;
    refuse_fixed(&before.service, &checked)?;
    let cluster = cluster_after(state, actor.scope(), &before.service, &checked).await?;
    let stored = &before.service.auth;
    let auth = protect::hash(state.passwords.as_ref(), checked.auth.clone(), stored).await?;

    let mut tx = state.store.begin().await?;
    let before = tx
        .service(actor.scope(), id)
        .await?
        .ok_or_else(not_found)?
        .service;
    refuse_fixed(&before, &checked)?;
    let mut record = changed_record(state, &before, checked, cluster, auth)?;
    check_references(&mut tx, actor.scope(), &record.targets).await?;
    if record.service.domain != before.domain {
        refuse_taken(&mut tx, &record.service.domain).await?;
    }
    keep_port(&before, &mut record.service);
    assign_port(state, &mut tx, &mut record.service).await?;
    if !tx.update_service(actor.scope(), &record).await? {
        return Err(not_found());
    }
    tx.commit().await?;

    if before.proxy_cluster != record.service.proxy_cluster {
        state.changes.publish(Change::ServiceRemoved {
            account: before.account_id,
            service: before.id,
            cluster: before.proxy_cluster,
        });
    }
    tell(state, &record.service);
    view(&state.store, actor, record).await
}

fn tell(state: &State, service: &ServiceRow) {
    state.changes.publish(Change::Service {
        account: service.account_id.clone(),
        service: service.id.clone(),
    });
}

fn refuse_fixed(before: &ServiceRow, checked: &CheckedService) -> Result<(), UseCaseError> {
    if before.terminated {
        return Err(UseCaseError::Forbidden(
            "a terminated service cannot be changed".to_owned(),
        ));
    }
    if before.mode != checked.mode {
        return Err(UseCaseError::invalid(
            "the mode of a service cannot be changed: make a new one",
        ));
    }
    Ok(())
}

async fn check_references(tx: &mut Tx, scope: &Scope, targets: &[TargetRow]) -> Result<(), UseCaseError> {
    let mut seen = HashSet::new();
    for target in targets {
        if !seen.insert((target.target_type, target.target_id.as_str())) {
            continue;
        }
        let found = match target.target_type {
            TargetType::Peer => {
                let peer = tx.peer(scope, &PeerId::new(target.target_id.as_str())).await?;
                peer.is_some_and(|peer| !peer.proxy_embedded)
            }
            TargetType::Cluster => true,
            // Networks are not managed here yet, so no resource can be there.
            TargetType::Host | TargetType::Domain | TargetType::Subnet => false,
        };
        if !found {
            let text = format!(
                "target {} {:?} not found",
                target.target_type.as_str(),
                target.target_id
            );
            return Err(UseCaseError::Invalid(text));
        }
    }
    Ok(())
}

async fn refuse_taken(tx: &mut Tx, domain: &DomainName) -> Result<(), UseCaseError> {
    if tx.domain_taken_anywhere(domain).await? {
        return Err(UseCaseError::Conflict(format!("domain already taken: {domain}")));
    }
    Ok(())
}
