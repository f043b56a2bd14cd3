//! `/api/groups`.

use std::sync::Arc;

use axum::extract::State as Shared;
use meshgate_proto::GroupId;
use serde::Serialize;

use super::answer::Answer;
use super::caller::{Caller, Named};
use super::error::RestError;
use super::params::Params;
use crate::groups::{self, GroupView};
use crate::state::State;
use crate::store::groups::ResourceRef;

/// A group as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct GroupAnswer {
    id: String,
    name: String,
    issued: String,
    peers_count: usize,
    resources_count: usize,
    peers: Vec<PeerName>,
    resources: Vec<ResourceRef>,
}

#[derive(Debug, Serialize)]
struct PeerName {
    id: String,
    name: String,
}

impl From<GroupView> for GroupAnswer {
    fn from(view: GroupView) -> Self {
        let peers = view.peers.into_iter().map(|peer| PeerName {
            id: peer.id.into_string(),
            name: peer.name,
        });
        let peers: Vec<PeerName> = peers.collect();
        Self {
            id: view.group.id.into_string(),
            name: view.group.name,
            issued: view.group.issued,
            peers_count: peers.len(),
            resources_count: view.group.resources.len(),
            peers,
            resources: view.group.resources,
        }
    }
}

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    params: Params,
) -> Result<Answer<Vec<GroupAnswer>>, RestError> {
    let name = params.text("name");
    let views = if name.is_empty() {
        groups::list(&state.store, &actor).await?
    } else {
        vec![groups::by_name(&state.store, &actor, &name).await?]
    };
    Ok(Answer(views.into_iter().map(GroupAnswer::from).collect()))
}

pub(super) async fn get(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<GroupAnswer>, RestError> {
    let view = groups::get(&state.store, &actor, &GroupId::new(id)).await?;
    Ok(Answer(view.into()))
}
