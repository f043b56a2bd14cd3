//! Making and changing services.

use std::collections::HashSet;

use meshgate_proto::{DomainName, PeerId, ServiceId, ServiceMode, ServiceStatus, TargetId, UnixTime, Xid};

use super::check::{CheckedService, CheckedTarget, check};
use super::protect::{self, HashedAuth};
use super::{ServiceInput, ServiceView, not_found, ports, view};
use crate::actor::{Actor, Scope};
use crate::authz::{Module, Operation, require};
use crate::changes::Change;
use crate::clusters::{self, Cluster, CustomDomain, derive_cluster};
use crate::error::UseCaseError;
use crate::session::SessionKey;
use crate::state::State;
use crate::store::Tx;
use crate::store::service_records::{
    ServiceAuth, ServiceRecord, ServiceRow, ServiceSource, TargetRow, TargetType,
};

/// Makes a service.
pub async fn create(state: &State, actor: &Actor, input: ServiceInput) -> Result<ServiceView, UseCaseError> {
    let checked = check(input)?;
    require(actor, Module::Services, Operation::Create)?;
    let now = state.clock.now();
    let cluster = find_cluster(state, actor.scope(), &checked.domain, now).await?;
    if checked.listen_port != 0 {
        allow_port(&cluster, checked.mode)?;
    }
    let auth = protect::hash(state.passwords.as_ref(), checked.auth.clone()).await?;
    let mut record = new_record(state, actor.scope(), checked, cluster.address, now);

    let mut tx = state.store.begin().await?;
    record.service.auth = auth.merge(&ServiceAuth::default())?;
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
    let auth = protect::hash(state.passwords.as_ref(), checked.auth.clone()).await?;

    let mut tx = state.store.begin().await?;
    let before = tx
        .service(actor.scope(), id)
        .await?
        .ok_or_else(not_found)?
        .service;
    refuse_fixed(&before, &checked)?;
    let mut record = changed_record(&before, checked, cluster, auth)?;
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

async fn find_cluster(
    state: &State,
    scope: &Scope,
    domain: &DomainName,
    now: UnixTime,
) -> Result<Cluster, UseCaseError> {
    let reachable = clusters::reachable(&state.store, scope, now).await?;
    let custom: Vec<CustomDomain> = state
        .store
        .domains(scope)
        .await?
        .into_iter()
        .filter_map(|row| {
            Some(CustomDomain {
                domain: DomainName::new(&row.domain).ok()?,
                target_cluster: row.target_cluster,
                validated: row.validated,
            })
        })
        .collect();
    let Some(derived) = derive_cluster(domain, &reachable, &custom) else {
        let known: Vec<&str> = reachable.iter().map(|cluster| cluster.address.as_str()).collect();
        let text = if known.is_empty() {
            format!("no cluster serves {domain}: no proxy is connected; start one and try again")
        } else {
            format!(
                "no cluster serves {domain}: use a name below {}",
                known.join(", ")
            )
        };
        return Err(UseCaseError::Precondition(text));
    };
    let Some(cluster) = reachable
        .into_iter()
        .find(|cluster| cluster.address == derived.address)
    else {
        let text = format!("cluster {} of {domain} is not connected", derived.address);
        return Err(UseCaseError::Precondition(text));
    };
    if derived.is_apex && cluster.capabilities.require_subdomain == Some(true) {
        let text = format!("cluster {domain} needs a name below its own, such as app.{domain}");
        return Err(UseCaseError::Invalid(text));
    }
    Ok(cluster)
}

/// A cluster that has gone keeps its services, unless they move.
async fn cluster_after(
    state: &State,
    scope: &Scope,
    before: &ServiceRow,
    checked: &CheckedService,
) -> Result<String, UseCaseError> {
    let new_port = checked.listen_port != 0 && checked.listen_port != before.listen_port;
    if checked.domain != before.domain {
        let cluster = find_cluster(state, scope, &checked.domain, state.clock.now()).await?;
        if checked.listen_port != 0 {
            allow_port(&cluster, checked.mode)?;
        }
        return Ok(cluster.address);
    }
    if new_port {
        let reachable = clusters::reachable(&state.store, scope, state.clock.now()).await?;
        let found = reachable
            .iter()
            .find(|cluster| cluster.address == before.proxy_cluster);
        let Some(cluster) = found else {
            let text = format!(
                "cluster {} is not connected: its ports are not known",
                before.proxy_cluster
            );
            return Err(UseCaseError::Precondition(text));
        };
        allow_port(cluster, checked.mode)?;
    }
    Ok(before.proxy_cluster.clone())
}

fn allow_port(cluster: &Cluster, mode: ServiceMode) -> Result<(), UseCaseError> {
    let wanted = matches!(mode, ServiceMode::Tcp | ServiceMode::Udp);
    if wanted && cluster.capabilities.custom_ports != Some(true) {
        let text = format!("custom ports not supported on cluster {}", cluster.address);
        return Err(UseCaseError::Invalid(text));
    }
    Ok(())
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

/// Without a wish an owner keeps the port he has; his wish for the same port does not make it his choice.
fn keep_port(before: &ServiceRow, service: &mut ServiceRow) {
    if service.listen_port == 0 || service.listen_port == before.listen_port {
        service.listen_port = before.listen_port;
        service.port_auto_assigned = before.port_auto_assigned;
    }
}

async fn assign_port(state: &State, tx: &mut Tx, service: &mut ServiceRow) -> Result<(), UseCaseError> {
    let (cluster, mode) = (&service.proxy_cluster, service.mode);
    match (mode, service.listen_port) {
        (ServiceMode::Http, _) => {}
        (ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls, 0) => {
            let range = state.config.proxy_ports.clone();
            service.listen_port = ports::choose(tx, cluster, mode, range, &service.id).await?;
            service.port_auto_assigned = true;
        }
        (ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls, port) => {
            ports::claim(tx, cluster, mode, port, &service.id).await?;
        }
    }
    Ok(())
}

fn new_record(
    state: &State,
    scope: &Scope,
    checked: CheckedService,
    cluster: String,
    now: UnixTime,
) -> ServiceRecord {
    let id = ServiceId::from(Xid::generate(now));
    let key = SessionKey::generate();
    let service = ServiceRow {
        id: id.clone(),
        account_id: scope.account().clone(),
        name: checked.name,
        domain: checked.domain,
        proxy_cluster: cluster,
        enabled: checked.enabled,
        terminated: false,
        pass_host_header: checked.pass_host_header,
        rewrite_redirects: checked.rewrite_redirects,
        auth: ServiceAuth::default(),
        restrictions: checked.restrictions,
        created_at: now,
        certificate_issued_at: None,
        status: ServiceStatus::Pending,
        status_message: String::new(),
        last_renewed_at: None,
        session_private_key: state.at_rest.seal(key.expose_text().expose()),
        session_public_key: key.public_text(),
        source: ServiceSource::Permanent,
        source_peer: None,
        mode: checked.mode,
        listen_port: checked.listen_port,
        port_auto_assigned: false,
        private: checked.private,
        access_groups: checked.access_groups,
    };
    let targets = target_rows(&service, checked.targets, now);
    ServiceRecord { service, targets }
}

fn changed_record(
    before: &ServiceRow,
    checked: CheckedService,
    cluster: String,
    auth: HashedAuth,
) -> Result<ServiceRecord, UseCaseError> {
    let service = ServiceRow {
        name: checked.name,
        domain: checked.domain,
        proxy_cluster: cluster,
        enabled: checked.enabled,
        pass_host_header: checked.pass_host_header,
        rewrite_redirects: checked.rewrite_redirects,
        auth: auth.merge(&before.auth)?,
        restrictions: checked.restrictions,
        listen_port: checked.listen_port,
        port_auto_assigned: false,
        private: checked.private,
        access_groups: checked.access_groups,
        ..before.clone()
    };
    let targets = target_rows(&service, checked.targets, before.created_at);
    Ok(ServiceRecord { service, targets })
}

fn target_rows(service: &ServiceRow, targets: Vec<CheckedTarget>, now: UnixTime) -> Vec<TargetRow> {
    let row = |target: CheckedTarget| TargetRow {
        id: TargetId::from(Xid::generate(now)),
        account_id: service.account_id.clone(),
        service_id: service.id.clone(),
        path: target.path,
        host: target.host,
        port: target.port,
        protocol: target.protocol,
        target_id: target.target_id,
        target_type: target.target_type,
        enabled: target.enabled,
        options: target.options,
    };
    targets.into_iter().map(row).collect()
}
