//! `/api/reverse-proxies/services`.

use std::sync::Arc;

use axum::extract::State as Shared;
use meshgate_proto::ServiceId;

use super::answer::{Answer, Done};
use super::body::Body;
use super::caller::{Caller, Named};
use super::error::RestError;
use super::service_answer::ServiceAnswer;
use crate::services::{self, ServiceInput};
use crate::state::State;

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
) -> Result<Answer<Vec<ServiceAnswer>>, RestError> {
    let views = services::list(&state.store, &actor).await?;
    Ok(Answer(views.into_iter().map(ServiceAnswer::from).collect()))
}

pub(super) async fn create(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Body(input): Body<ServiceInput>,
) -> Result<Answer<ServiceAnswer>, RestError> {
    let view = services::create(&state, &actor, input).await?;
    Ok(Answer(view.into()))
}

pub(super) async fn get(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<ServiceAnswer>, RestError> {
    let view = services::get(&state.store, &actor, &ServiceId::new(id)).await?;
    Ok(Answer(view.into()))
}

pub(super) async fn update(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
    Body(input): Body<ServiceInput>,
) -> Result<Answer<ServiceAnswer>, RestError> {
    let view = services::update(&state, &actor, &ServiceId::new(id), input).await?;
    Ok(Answer(view.into()))
}

pub(super) async fn delete(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<Done>, RestError> {
    services::delete(&state, &actor, &ServiceId::new(id)).await?;
    Ok(Answer(Done {}))
}
