//! What a use-case can answer instead of a result. Each surface maps it once: `rest/error.rs`, `grpc/status.rs`.

use crate::password::PasswordError;
use crate::store::StoreError;

/// Why a use-case did not do what it was asked.
///
/// The texts are for the caller; the cause of an internal fault goes to the log only.
#[derive(Debug, thiserror::Error)]
pub enum UseCaseError {
    /// Nothing of that name here; also said when it belongs to somebody else.
    #[error("{0} not found")]
    NotFound(String),
    /// What was asked cannot be: the caller has to change it.
    #[error("{0}")]
    Invalid(String),
    /// Like [`UseCaseError::Invalid`], where clients are used to another status.
    #[error("{0}")]
    Malformed(String),
    /// Something of that name is there already.
    #[error("{0}")]
    Conflict(String),
    /// Something else has to happen first.
    #[error("{0}")]
    Precondition(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody is known to be calling.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Too much is going on; later it may pass.
    #[error("too many requests, try again later")]
    Busy,
    /// A fault of ours.
    #[error("internal server error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl UseCaseError {
    /// Nothing of `kind` with that name, such as `"service"`.
    pub fn not_found(kind: &str) -> Self {
        Self::NotFound(kind.to_owned())
    }

    /// The caller sent something that cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// The answer to everything a role does not allow.
    pub fn permission_denied() -> Self {
        Self::Forbidden("permission denied".to_owned())
    }

    /// A fault of ours.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }
}

impl From<StoreError> for UseCaseError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Duplicate { .. } => Self::Conflict("already exists".to_owned()),
            StoreError::Busy => Self::Busy,
            error => Self::Internal(Box::new(error)),
        }
    }
}

impl From<PasswordError> for UseCaseError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            error @ PasswordError::Failed(_) => Self::Internal(Box::new(error)),
        }
    }
}
