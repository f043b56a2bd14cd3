//! Who calls, and what the path names.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse as _, Response};
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::envelope::not_found;
use super::error::RestError;
use crate::actor::Actor;
use crate::authn;
use crate::state::State;

/// Who calls. Handlers take it first, so that nothing else is looked at before.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Actor);

impl FromRequestParts<Arc<State>> for Caller {
    type Rejection = RestError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, RestError> {
        let header = parts.headers.get(AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok());
        let actor = authn::authenticate(&state.store, header, state.clock.now()).await?;
        Ok(Self(actor))
    }
}

/// The last segment of the path.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(not_found(parts.uri.clone()).await.into_response()),
        }
    }
}
