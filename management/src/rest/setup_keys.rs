//! `/api/setup-keys`.

use std::sync::Arc;

use axum::extract::State as Shared;
use meshgate_proto::{GroupId, SetupKeyId, UnixTime};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, BareAnswer, Done, moment, moment_or_never};
use super::body::Body;
use super::caller::{Caller, Named};
use super::error::RestError;
use crate::lenient::empty;
use crate::setup_keys::{self, NewSetupKey, SetupKeyState, SetupKeyUpdate};
use crate::state::State;
use crate::store::setup_keys::SetupKeyRow;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CreateBody {
    #[serde(deserialize_with = "empty")]
    name: String,
    #[serde(rename = "type", deserialize_with = "empty")]
    kind: String,
    #[serde(deserialize_with = "empty")]
    expires_in: i64,
    #[serde(deserialize_with = "empty")]
    auto_groups: Vec<String>,
    #[serde(deserialize_with = "empty")]
    usage_limit: i64,
    #[serde(deserialize_with = "empty")]
    ephemeral: bool,
    #[serde(deserialize_with = "empty")]
    allow_extra_dns_labels: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UpdateBody {
    #[serde(deserialize_with = "empty")]
    revoked: bool,
    auto_groups: Option<Vec<String>>,
}

/// A setup key as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct SetupKeyAnswer {
    id: String,
    key: String,
    name: String,
    expires: String,
    #[serde(rename = "type")]
    kind: &'static str,
    valid: bool,
    revoked: bool,
    used_times: u64,
    last_used: String,
    state: &'static str,
    auto_groups: Vec<String>,
    updated_at: String,
    usage_limit: i64,
    ephemeral: bool,
    allow_extra_dns_labels: bool,
}

impl SetupKeyAnswer {
    fn new(row: SetupKeyRow, now: UnixTime) -> Self {
        let state = setup_keys::state(&row, now);
        Self {
            id: row.id.into_string(),
            key: row.key_secret,
            name: row.name,
            expires: moment_or_never(row.expires_at),
            kind: row.kind.as_str(),
            valid: state == SetupKeyState::Valid,
            revoked: row.revoked,
            used_times: row.used_times,
            last_used: moment_or_never(row.last_used),
            state: state.as_str(),
            auto_groups: row.auto_groups.into_iter().map(GroupId::into_string).collect(),
            updated_at: moment(row.updated_at),
            usage_limit: row.usage_limit,
            ephemeral: row.ephemeral,
            allow_extra_dns_labels: row.allow_extra_dns_labels,
        }
    }
}

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
) -> Result<Answer<Vec<SetupKeyAnswer>>, RestError> {
    let keys = setup_keys::list(&state.store, &actor).await?;
    let now = state.clock.now();
    Ok(Answer(
        keys.into_iter()
            .map(|row| SetupKeyAnswer::new(row, now))
            .collect(),
    ))
}

pub(super) async fn create(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Body(body): Body<CreateBody>,
) -> Result<Answer<SetupKeyAnswer>, RestError> {
    let new = NewSetupKey {
        name: body.name,
        kind: body.kind,
        expires_in: body.expires_in,
        auto_groups: body.auto_groups,
        usage_limit: body.usage_limit,
        ephemeral: body.ephemeral,
        allow_extra_dns_labels: body.allow_extra_dns_labels,
    };
    let now = state.clock.now();
    let made = setup_keys::create(&state.store, &actor, new, now).await?;
    Ok(Answer(SetupKeyAnswer {
        key: made.key.expose().clone(),
        ..SetupKeyAnswer::new(made.row, now)
    }))
}

pub(super) async fn get(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<BareAnswer<SetupKeyAnswer>, RestError> {
    let key = setup_keys::get(&state.store, &actor, &SetupKeyId::new(id)).await?;
    Ok(BareAnswer(SetupKeyAnswer::new(key, state.clock.now())))
}

pub(super) async fn update(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
    Body(body): Body<UpdateBody>,
) -> Result<BareAnswer<SetupKeyAnswer>, RestError> {
    let update = SetupKeyUpdate {
        revoked: body.revoked,
        auto_groups: body.auto_groups,
    };
    let now = state.clock.now();
    let key = setup_keys::update(&state.store, &actor, &SetupKeyId::new(id), update, now).await?;
    Ok(BareAnswer(SetupKeyAnswer::new(key, now)))
}

pub(super) async fn delete(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<Done>, RestError> {
    setup_keys::delete(&state.store, &actor, &SetupKeyId::new(id)).await?;
    Ok(Answer(Done {}))
}
