//! TLS to targets: one client configuration per target and protocol choice, made once.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is offered in ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2, or HTTP/1.1 where the target has no better.
    Http2,
}

/// The TLS side of one target. Sessions are resumed within a target only.
#[derive(Debug)]
pub(crate) struct TlsClient {
    skip_verify: bool,
    http1: OnceLock<Arc<ClientConfig>>,
    http2: OnceLock<Arc<ClientConfig>>,
}

/// Why no TLS connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The host of the target is neither a name nor an address that TLS can check.
    #[error("target host cannot be checked by TLS")]
    Name,
    /// The handshake failed.
    #[error("TLS handshake failed")]
    Handshake(#[source] std::io::Error),
}

impl TlsClient {
    /// With `skip_verify` any certificate is taken.
    pub(crate) fn new(skip_verify: bool) -> Self {
        Self {
            skip_verify,
            http1: OnceLock::new(),
            http2: OnceLock::new(),
        }
    }

    /// Speaks TLS over a stream; `host` is the name that is sent and checked.
    pub(crate) async fn connect<S>(&self, io: S, host: &str, offer: Offer) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| TlsError::Name)?;
        let config = self.config(offer).await;
        TlsConnector::from(config)
            .connect(name, io)
            .await
            .map_err(TlsError::Handshake)
    }

    async fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        let (slot, protocols) = match offer {
            Offer::Http1 => (&self.http1, vec![b"http/1.1".to_vec()]),
            Offer::Http2 => (&self.http2, vec![b"h2".to_vec(), b"http/1.1".to_vec()]),
        };
        if let Some(config) = slot.get() {
            return Arc::clone(config);
        }
        let roots = if self.skip_verify {
            None
        } else {
            Some(system_roots().await)
        };
        Arc::clone(slot.get_or_init(|| Arc::new(client_config(roots, protocols))))
    }
}

/// A configuration that checks against `roots`, or nothing at all.
fn client_config(roots: Option<Arc<RootCertStore>>, protocols: Vec<Vec<u8>>) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = versions(provider);
    let mut config = match roots {
        Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { algorithms }))
            .with_no_client_auth(),
    };
    config.alpn_protocols = protocols;
    config
}

fn versions(provider: Arc<CryptoProvider>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has suites for the default versions")
}

/// The machine's trust store, read once; an unreadable one trusts nobody.
async fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Arc::clone(roots);
    }
    let read = tokio::task::spawn_blocking(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            tracing::warn!("Found no trusted certificates on this machine; TLS targets cannot be verified");
        }
        roots
    });
    let roots = read.await.unwrap_or_else(|_| RootCertStore::empty());
    Arc::clone(ROOTS.get_or_init(|| Arc::new(roots)))
}

/// Takes any certificate whose key signed the handshake: for targets marked so by their owner.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
