//! The edge's side of TLS: who gets a handshake, and with which protocols.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::client_hello::{ACME_TLS_ALPN, Hello};

/// Longest wait for the rest of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The configurations that a connection can get.
#[derive(Debug)]
pub(crate) struct EdgeTls {
    serve: Arc<ServerConfig>,
    challenge: Arc<ServerConfig>,
    refuse: Arc<ServerConfig>,
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The client was too slow.
    #[error("client did not finish its handshake in time")]
    TimedOut,
    /// No certificate for the name, or the client broke off.
    #[error("handshake failed")]
    Failed(#[source] io::Error),
}

impl EdgeTls {
    /// Hands out what `certificates` has; a name it does not know ends in an alert.
    pub(crate) fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        let mut serve = config(Arc::clone(&certificates))?;
        serve.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        serve.ticketer = ring::Ticketer::new()?;
        let mut challenge = config(certificates)?;
        challenge.alpn_protocols = vec![ACME_TLS_ALPN.to_vec()];
        let refuse = config(Arc::new(NoCertificate))?;
        Ok(Self {
            serve: Arc::new(serve),
            challenge: Arc::new(challenge),
            refuse: Arc::new(refuse),
        })
    }

    /// Finishes the handshake that a hello began. One without a host name is refused like an unknown name.
    pub(crate) async fn handshake<S>(&self, hello: Hello, io: S) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match (&hello.server_name, hello.is_challenge) {
            (None, _) => &self.refuse,
            (Some(_), true) => &self.challenge,
            (Some(_), false) => &self.serve,
        };
        let handshake = StartHandshake::from_parts(hello.accepted, io).into_stream(Arc::clone(config));
        timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| HandshakeError::TimedOut)?
            .map_err(HandshakeError::Failed)
    }
}

/// TLS 1.2 and 1.3 without client certificates.
fn config(certificates: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_cert_resolver(certificates))
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
