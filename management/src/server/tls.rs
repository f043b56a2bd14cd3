//! TLS of the one port.

use std::sync::Arc;

use meshgate_certs::{LoadError, PairFiles};
use meshgate_proto::UnixTime;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why the port cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate or key cannot be used.
    #[error("certificate of the management port cannot be used")]
    Files(#[from] LoadError),
    /// The cryptography refuses the configuration.
    #[error("TLS of the management port cannot be set up")]
    Config(#[from] rustls::Error),
}

/// Reads certificate and key; offers HTTP/2, on which gRPC clients insist, and HTTP/1.1, which WebSockets need.
pub fn acceptor(files: &TlsFiles, now: UnixTime) -> Result<TlsAcceptor, TlsError> {
    let pair = PairFiles {
        certificate: files.cert.clone(),
        key: files.key.clone(),
    };
    let key = pair.load(now)?.certified_key();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
