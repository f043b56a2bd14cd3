use std::net::IpAddr;

use async_trait::async_trait;
use meshgate_proto::{AccountId, Secret, ServiceId};

/// A secret and who shows it.
#[derive(Debug)]
pub(crate) struct Credential {
    /// The client, as the edge believes it.
    pub(crate) client_ip: IpAddr,
    /// What it shows.
    pub(crate) shown: Shown,
}

/// A secret that a client shows.
#[derive(Debug)]
pub(crate) enum Shown {
    /// The password of a service.
    Password(Secret<String>),
    /// The PIN of a service.
    Pin(Secret<String>),
    /// The value of a header.
    Header {
        /// Name of the header.
        name: String,
        /// Its value.
        value: Secret<String>,
    },
}

/// Why a secret could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    /// Management does not answer, or not in time.
    #[error("management cannot be reached")]
    Unreachable,
    /// Management wants fewer checks.
    #[error("management takes no more checks for now")]
    Exhausted,
    /// Management refuses to check this.
    #[error("management refused the check")]
    Refused,
}

/// Checks secrets; in earnest this is management.
#[async_trait]
pub(crate) trait Authenticator: Send + Sync + std::fmt::Debug {
    /// The session token for a right secret, `None` for a wrong one.
    async fn authenticate(
        &self,
        service: &ServiceId,
        account: &AccountId,
        credential: Credential,
    ) -> Result<Option<Secret<String>>, CheckError>;
}
