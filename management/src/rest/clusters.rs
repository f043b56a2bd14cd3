//! `/api/reverse-proxies/clusters`.

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::Serialize;

use super::answer::Answer;
use super::caller::Caller;
use super::error::RestError;
use crate::authz::{Module, Operation, require};
use crate::clusters::{self, Cluster};
use crate::state::State;

/// A cluster as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct ClusterAnswer {
    id: String,
    address: String,
    #[serde(rename = "type")]
    kind: &'static str,
    online: bool,
    connected_proxies: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    supports_custom_ports: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require_subdomain: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supports_crowdsec: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<bool>,
}

impl From<Cluster> for ClusterAnswer {
    fn from(cluster: Cluster) -> Self {
        Self {
            id: cluster.address.clone(),
            address: cluster.address,
            kind: cluster.owner.as_str(),
            online: cluster.connected_proxies > 0,
            connected_proxies: cluster.connected_proxies,
            supports_custom_ports: cluster.capabilities.custom_ports,
            require_subdomain: cluster.capabilities.require_subdomain,
            supports_crowdsec: cluster.capabilities.crowdsec,
            private: cluster.capabilities.private,
        }
    }
}

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
) -> Result<Answer<Vec<ClusterAnswer>>, RestError> {
    require(&actor, Module::Services, Operation::Read)?;
    let clusters = clusters::reachable(&state.store, actor.scope(), state.clock.now()).await?;
    Ok(Answer(clusters.into_iter().map(ClusterAnswer::from).collect()))
}
