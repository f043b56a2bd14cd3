//! Ports of services below HTTP.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use meshgate_proto::{ServiceId, ServiceMode};
use rand::Rng as _;

use crate::error::UseCaseError;
use crate::store::Tx;

/// Random ports that are tried before all of them are looked at.
const RANDOM_TRIES: u32 = 100;

/// Refuses a port that another TCP or UDP service of the cluster has.
pub(super) async fn claim(
    tx: &mut Tx,
    cluster: &str,
    mode: ServiceMode,
    port: u16,
    owner: &ServiceId,
) -> Result<(), UseCaseError> {
    let exclusive = matches!(mode, ServiceMode::Tcp | ServiceMode::Udp);
    if exclusive && tx.port_taken_anywhere(cluster, mode, port, owner).await? {
        let text = format!(
            "port {port} ({}) is already in use on cluster {cluster}",
            mode.as_str()
        );
        return Err(UseCaseError::Conflict(text));
    }
    Ok(())
}

/// Finds a port that no service of the cluster has.
pub(super) async fn choose(
    tx: &mut Tx,
    cluster: &str,
    mode: ServiceMode,
    range: RangeInclusive<u16>,
    owner: &ServiceId,
) -> Result<u16, UseCaseError> {
    if !range.is_empty() {
        for _ in 0..RANDOM_TRIES {
            let port = rand::rng().random_range(range.clone());
            if !tx.port_taken_anywhere(cluster, mode, port, owner).await? {
                return Ok(port);
            }
        }
    }
    let taken: HashSet<u16> = tx
        .ports_of_cluster_anywhere(cluster, mode)
        .await?
        .into_iter()
        .collect();
    let mut free = range.filter(|port| !taken.contains(port));
    free.next().ok_or_else(|| {
        let text = format!("no free port is left on cluster {cluster}: delete a service or widen the range");
        UseCaseError::Precondition(text)
    })
}
