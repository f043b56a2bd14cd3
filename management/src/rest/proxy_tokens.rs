//! `/api/reverse-proxies/proxy-tokens`.

use std::sync::Arc;

use axum::extract::State as Shared;
use meshgate_proto::TokenId;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Done, moment};
use super::body::Body;
use super::caller::{Caller, Named};
use super::error::RestError;
use crate::lenient::empty;
use crate::state::State;
use crate::store::proxy_tokens::ProxyTokenRow;
use crate::tokens::{self, NewProxyToken};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CreateBody {
    #[serde(deserialize_with = "empty")]
    name: String,
    #[serde(deserialize_with = "empty")]
    expires_in: i64,
}

/// A proxy token as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct ProxyTokenAnswer {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    revoked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_token: Option<String>,
}

impl From<ProxyTokenRow> for ProxyTokenAnswer {
    fn from(row: ProxyTokenRow) -> Self {
        Self {
            id: row.id.into_string(),
            name: row.name,
            expires_at: row.expires_at.map(moment),
            created_at: moment(row.created_at),
            last_used: row.last_used.map(moment),
            revoked: row.revoked,
            plain_token: None,
        }
    }
}

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
) -> Result<Answer<Vec<ProxyTokenAnswer>>, RestError> {
    let tokens = tokens::list_proxy_tokens(&state.store, &actor).await?;
    Ok(Answer(tokens.into_iter().map(ProxyTokenAnswer::from).collect()))
}

pub(super) async fn create(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Body(body): Body<CreateBody>,
) -> Result<Answer<ProxyTokenAnswer>, RestError> {
    let new = NewProxyToken {
        name: body.name,
        expires_in: body.expires_in,
    };
    let made = tokens::create_proxy_token(&state.store, &actor, new, state.clock.now()).await?;
    Ok(Answer(ProxyTokenAnswer {
        plain_token: Some(made.token.expose().to_owned()),
        ..made.row.into()
    }))
}

pub(super) async fn revoke(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<Done>, RestError> {
    tokens::revoke_proxy_token(&state.store, &state.changes, &actor, &TokenId::new(id)).await?;
    Ok(Answer(Done {}))
}
