//! Bodies of requests: JSON, whatever the content type says, up to 1 MiB, in 30 seconds.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{RestError, plain};
use crate::error::UseCaseError;

const MAX_BODY: usize = 1 << 20;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What the body says; `null` and missing fields are empty, what follows the first value does not count.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Response> {
        let bytes = read(request).await?;
        let broken = || {
            let text = "couldn't parse JSON request".to_owned();
            RestError::from(UseCaseError::Malformed(text)).into_response()
        };
        let mut values =
            serde_json::Deserializer::from_slice(&bytes).into_iter::<Option<Map<String, Value>>>();
        let value = values.next().and_then(Result::ok).ok_or_else(broken)?;
        match value {
            Some(map) => T::deserialize(Value::Object(map)).map(Body).map_err(|_| broken()),
            None => Ok(Self(T::default())),
        }
    }
}

async fn read(request: Request) -> Result<Bytes, Response> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    match tokio::time::timeout(READ_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("request body is larger than {MAX_BODY} bytes");
            Err(plain(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Ok(Err(_)) => Err(plain(StatusCode::BAD_REQUEST, "couldn't read request".to_owned())),
        Err(_) => {
            let text = "request body did not arrive in time".to_owned();
            Err(plain(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}
