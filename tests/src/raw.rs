//! Bytes over TLS, for what a proper client would never send.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens TLS for a server name, offering the protocols. An address as the name means: no SNI.
///
/// # Errors
/// What the handshake failed with.
///
/// # Panics
/// When the authority's file cannot be used.
pub async fn tls(
    ca_file: &Path,
    edge: SocketAddr,
    name: &str,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(client_config(ca_file, alpn));
    let name = ServerName::try_from(name.to_owned()).expect("it is a host name");
    TlsConnector::from(config)
        .connect(name, TcpStream::connect(edge).await?)
        .await
}

/// Settings of a client that trusts the authority alone.
///
/// # Panics
/// When the authority's file cannot be used.
pub fn client_config(ca_file: &Path, alpn: &[&str]) -> ClientConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).expect("the authority's file is there") {
        roots
            .add(certificate.expect("it is PEM"))
            .expect("it is an authority");
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Sends bytes as they stand and reads until the edge closes or nothing more comes.
///
/// # Panics
/// When the connection cannot be made, or the edge neither answers nor closes.
pub async fn exchange(ca_file: &Path, edge: SocketAddr, name: &str, request: &[u8]) -> String {
    let mut stream = tls(ca_file, edge, name, &["http/1.1"])
        .await
        .expect("the edge takes the connection");
    let mut answer = Vec::new();
    let talk = async {
        // The edge may refuse before it has read everything.
        let _ = stream.write_all(request).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    let ended = tokio::time::timeout(PATIENCE, talk).await.is_ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        ended || !answer.is_empty(),
        "neither answer nor end to {}",
        String::from_utf8_lossy(request)
    );
    answer
}

/// Status code of an HTTP/1 answer; none when the connection was closed without one.
pub fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// Reads one answer with a length from a connection that stays open, and returns its status; none when the
/// connection has ended.
pub async fn read_answer(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<u16> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let found = status(&line)?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(found)
}
