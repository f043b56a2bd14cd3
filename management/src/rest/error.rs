//! Errors of use-cases as answers: the one place where they become statuses.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::answer::Answer;
use crate::error::UseCaseError;

/// An error on its way out.
#[derive(Debug)]
pub(super) struct RestError(UseCaseError);

/// The cause of a fault of ours, for the log.
#[derive(Clone, Debug)]
pub(super) struct Fault(pub(super) String);

#[derive(Debug, Serialize)]
struct ErrorBody {
    message: String,
    code: u16,
}

impl<E: Into<UseCaseError>> From<E> for RestError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let mut response = plain(status_of(&self.0), self.0.to_string());
        if let UseCaseError::Internal(cause) = &self.0 {
            response.extensions_mut().insert(Fault(chain(cause.as_ref())));
        }
        response
    }
}

/// An error that no use-case knows.
pub(super) fn plain(status: StatusCode, message: String) -> Response {
    let body = ErrorBody {
        message,
        code: status.as_u16(),
    };
    (status, Answer(body)).into_response()
}

fn status_of(error: &UseCaseError) -> StatusCode {
    match error {
        UseCaseError::NotFound(_) => StatusCode::NOT_FOUND,
        UseCaseError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        UseCaseError::Malformed(_) => StatusCode::BAD_REQUEST,
        UseCaseError::Conflict(_) => StatusCode::CONFLICT,
        UseCaseError::Precondition(_) => StatusCode::PRECONDITION_FAILED,
        UseCaseError::Forbidden(_) => StatusCode::FORBIDDEN,
        UseCaseError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        UseCaseError::Busy => StatusCode::TOO_MANY_REQUESTS,
        UseCaseError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
