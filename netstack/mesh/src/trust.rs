//! Which certificate authorities count.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_tungstenite::Connector;
use tonic::transport::{Certificate, ClientTlsConfig};

/// Larger files are no list of authorities.
const MAX_PEM: u64 = 4 << 20;

/// The machine's authorities and those of one more file.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    extra_pem: Option<Vec<u8>>,
    websocket: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Trust {
    /// Reads and checks the additional file.
    pub(crate) fn load(extra: Option<&Path>) -> io::Result<Self> {
        let extra_pem = extra.map(read_pem).transpose()?;
        Ok(Self {
            extra_pem,
            websocket: OnceLock::new(),
        })
    }

    /// Settings of a gRPC channel.
    pub(crate) fn grpc(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().with_native_roots();
        match &self.extra_pem {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config,
        }
    }

    /// Settings of a WebSocket.
    pub(crate) fn websocket(&self) -> Connector {
        let config = self.websocket.get_or_init(|| Arc::new(self.client_config()));
        Connector::Rustls(Arc::clone(config))
    }

    fn client_config(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = &self.extra_pem {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
        }
        rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    if std::fs::metadata(path)?.len() > MAX_PEM {
        return Err(invalid("the file is too large"));
    }
    let pem = std::fs::read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        Ok(_) => Err(invalid("it holds no certificate")),
        Err(error) => Err(invalid(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_file_without_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();

        assert_eq!(
            Trust::load(Some(&path)).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
