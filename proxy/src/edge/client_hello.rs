//! The first message of a TLS connection: read whole, bounded in size and time, before anything is decided.

use std::io;
use std::time::Duration;

use meshgate_proto::DomainName;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Longest wait for a whole client hello.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes that are read in search of one.
const MAX_HELLO: usize = 64 * 1024;

/// The protocol name under which certificate authorities check a host (RFC 8737).
pub(crate) const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// What a client says before anything is encrypted.
pub(crate) struct Hello {
    /// The host it wants; absent when it names none.
    pub(crate) server_name: Option<DomainName>,
    /// It is a certificate authority's check.
    pub(crate) is_challenge: bool,
    /// The handshake as far as it went.
    pub(crate) accepted: Accepted,
}

/// Why there is no client hello.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// It did not come in time.
    #[error("client sent no complete hello in time")]
    TimedOut,
    /// More bytes than any hello has.
    #[error("client hello is too large")]
    TooLarge,
    /// The client went away.
    #[error("client went away before its hello")]
    Closed,
    /// It is no TLS, or broken.
    #[error("client hello is malformed")]
    Malformed(#[source] rustls::Error),
    /// The connection broke.
    #[error("connection broke before the hello")]
    Io(#[from] io::Error),
}

/// Reads a client hello; a malformed one is answered with an alert.
pub(crate) async fn read<S>(io: &mut S) -> Result<Hello, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(HELLO_TIMEOUT, read_unhurried(io))
        .await
        .map_err(|_| HelloError::TimedOut)?
}

async fn read_unhurried<S>(io: &mut S) -> Result<Hello, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut chunk = [0; 4096];
    let mut total = 0;
    loop {
        let size = io.read(&mut chunk).await?;
        if size == 0 {
            return Err(HelloError::Closed);
        }
        total += size;
        if total > MAX_HELLO {
            return Err(HelloError::TooLarge);
        }
        let mut bytes = &chunk[..size];
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Hello::new(accepted)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes)?;
                // A client that sent garbage may not wait for the alert.
                let _ = io.write_all(&bytes).await;
                return Err(HelloError::Malformed(error));
            }
        }
    }
}

impl Hello {
    fn new(accepted: Accepted) -> Self {
        let hello = accepted.client_hello();
        let server_name = hello.server_name().and_then(|name| DomainName::new(name).ok());
        let is_challenge = hello
            .alpn()
            .is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_TLS_ALPN));
        Self {
            server_name,
            is_challenge,
            accepted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::io::duplex;

    use super::*;

    fn hello_bytes(name: &'static str, alpn: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn reads_a_hello_byte_by_byte() {
        let (mut client, mut server) = duplex(1);
        let bytes = hello_bytes("App.Test", &[b"h2"]);

        let (hello, _) = tokio::join!(read(&mut server), client.write_all(&bytes));

        let hello = hello.unwrap();
        assert_eq!(hello.server_name.unwrap().as_str(), "app.test");
        assert!(!hello.is_challenge);
    }

    #[tokio::test]
    async fn sees_challenges_and_missing_names() {
        for (name, alpn, named, challenge) in [
            ("app.test", ACME_TLS_ALPN, true, true),
            ("192.0.2.1", b"h2", false, false),
        ] {
            let (mut client, mut server) = duplex(4096);
            client.write_all(&hello_bytes(name, &[alpn])).await.unwrap();

            let hello = read(&mut server).await.unwrap();

            assert_eq!(
                (hello.server_name.is_some(), hello.is_challenge),
                (named, challenge)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time() {
        let (_client, mut server) = duplex(64);

        assert!(matches!(read(&mut server).await, Err(HelloError::TimedOut)));
    }

    #[tokio::test]
    async fn plain_http_is_answered_with_an_alert() {
        let (mut client, mut server) = duplex(4096);
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();

        let error = read(&mut server).await.err().unwrap();

        assert!(matches!(error, HelloError::Malformed(_)));
        let mut alert = [0; 7];
        client.read_exact(&mut alert).await.unwrap();
        assert_eq!(alert[0], 21);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), flip in any::<u16>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut broken = hello_bytes("app.test", &[b"h2"]);
                let at = usize::from(flip) % broken.len();
                broken[at] ^= 0xff;
                for bytes in [bytes, broken] {
                    let (mut client, mut server) = duplex(8192);
                    client.write_all(&bytes).await.unwrap();
                    drop(client);
                    let _ = read(&mut server).await;
                }
            });
        }
    }
}
