//! Why a proxy does not start.

use std::io;
use std::path::PathBuf;

use meshgate_certs::{AuthorityError, LoadError};
use tonic::Code;

use crate::config::{InsecureManagement, ListenAddress};
use crate::control::{CallError, ClientError};

/// Why a proxy does not start. Only the operator can change it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The token would travel in the clear.
    #[error(transparent)]
    Insecure(#[from] InsecureManagement),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificates cannot be used.
    #[error("cannot use the certificates")]
    Certificates(#[source] LoadError),
    /// The internal authority cannot be used.
    #[error("cannot use the internal certificate authority")]
    Authority(#[source] AuthorityError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The threads for connections cannot be started.
    #[error("cannot start a thread for each core")]
    Threads(#[source] io::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
    /// A bound socket does not tell its address.
    #[error("cannot read the address of a listening socket")]
    Socket(#[source] io::Error),
    /// The connection to management cannot be prepared.
    #[error("cannot prepare the connection to management: {0}")]
    Client(String),
    /// Management does not accept the token.
    #[error("management refused the proxy token in NB_PROXY_TOKEN: {0}")]
    TokenRefused(String),
    /// Management does not accept this proxy.
    #[error("management refused this proxy: {0}")]
    Refused(String),
}

impl From<ClientError> for StartError {
    fn from(error: ClientError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Client(text)
    }
}

impl StartError {
    pub(super) fn refused(error: &CallError) -> Self {
        match error.code {
            Code::Unauthenticated => Self::TokenRefused(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}
