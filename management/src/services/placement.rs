//! Where a service is served: its cluster and its port.

use meshgate_proto::{DomainName, ServiceMode, UnixTime};

use super::check::CheckedService;
use super::ports;
use crate::actor::Scope;
use crate::clusters::{self, Cluster, CustomDomain, derive_cluster};
use crate::error::UseCaseError;
use crate::state::State;
use crate::store::Tx;
use crate::store::service_records::ServiceRow;

pub(super) async fn find_cluster(
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
pub(super) async fn cluster_after(
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

pub(super) fn allow_port(cluster: &Cluster, mode: ServiceMode) -> Result<(), UseCaseError> {
    let wanted = matches!(mode, ServiceMode::Tcp | ServiceMode::Udp);
    if wanted && cluster.capabilities.custom_ports != Some(true) {
        let text = format!("custom ports not supported on cluster {}", cluster.address);
        return Err(UseCaseError::Invalid(text));
    }
    Ok(())
}

/// Without a wish an owner keeps the port he has; his wish for the same port does not make it his choice.
pub(super) fn keep_port(before: &ServiceRow, service: &mut ServiceRow) {
    if service.listen_port == 0 || service.listen_port == before.listen_port {
        service.listen_port = before.listen_port;
        service.port_auto_assigned = before.port_auto_assigned;
    }
}

pub(super) async fn assign_port(
    state: &State,
    tx: &mut Tx,
    service: &mut ServiceRow,
) -> Result<(), UseCaseError> {
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
