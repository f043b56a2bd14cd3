//! Errors as gRPC statuses: the one place that chooses codes for use-cases.

use std::error::Error;

use tonic::Status;
use tracing::error;

use crate::error::UseCaseError;

/// The status of a failed use-case. Internal faults are logged here, and the caller learns no cause.
pub(crate) fn status(failure: &UseCaseError) -> Status {
    let text = failure.to_string();
    match failure {
        UseCaseError::NotFound(_) => Status::not_found(text),
        UseCaseError::Invalid(_) | UseCaseError::Malformed(_) => Status::invalid_argument(text),
        UseCaseError::Conflict(_) => Status::already_exists(text),
        UseCaseError::Precondition(_) => Status::failed_precondition(text),
        UseCaseError::Forbidden(_) => Status::permission_denied(text),
        UseCaseError::Unauthenticated(_) => Status::unauthenticated(text),
        UseCaseError::Busy => Status::resource_exhausted(text),
        UseCaseError::Internal(cause) => internal(cause.as_ref()),
    }
}

/// A fault of ours. Unavailable, not Internal: peers come back later either way, but on another connection.
pub(crate) fn internal(cause: &(dyn Error + 'static)) -> Status {
    let mut chain = cause.to_string();
    let mut source = cause.source();
    while let Some(next) = source {
        chain = format!("{chain}: {next}");
        source = next.source();
    }
    error!(error = chain, "Request failed inside the server");
    Status::unavailable("internal server error, try again later")
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_fault_of_ours_shows_no_cause() {
        let failure = UseCaseError::internal("disk full at /var/lib");

        let status = status(&failure);

        assert_eq!(status.code(), Code::Unavailable);
        assert!(!status.message().contains("disk"));
    }
}
