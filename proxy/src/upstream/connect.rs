//! From a target to a stream that a request can be written to: dial, TLS, choice of protocol.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::dial::{DialError, Io};
use super::spec::TargetScheme;
use super::target::Target;
use super::tls::{Offer, TlsError};

/// Longest wait for a stream to a target, TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest pause within request bodies.
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_mins(1);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The dialer had none.
    #[error("could not dial the target")]
    Dial(#[from] DialError),
    /// The target's TLS did not pass.
    #[error("could not speak TLS with the target")]
    Tls(#[from] TlsError),
    /// The target took the stream and then kept silent.
    #[error("target did not finish the handshake in time")]
    HandshakeTimedOut,
    /// The target does not speak HTTP/2 as it should.
    #[error("could not speak HTTP/2 with the target")]
    Http2(#[from] h2::Error),
}

/// A target took a request and did not begin to answer in the time that its options allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("target did not begin its answer in time")]
pub(crate) struct NoAnswer;

impl From<NoAnswer> for io::Error {
    fn from(error: NoAnswer) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// A client began a body and did not go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client did not go on with its body in time")]
pub(crate) struct StalledUpload;

impl From<StalledUpload> for io::Error {
    fn from(error: StalledUpload) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// A stream, and what is spoken over it.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// HTTP/1.1.
    Http1(Box<dyn Io>),
    /// HTTP/2.
    Http2(Box<dyn Io>),
}

/// Opens a stream to a target.
pub(crate) async fn connect(target: &Target, wants: Offer) -> Result<Fresh, ConnectError> {
    let spec = target.spec();
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let dial = target.dialer().dial(&spec.address, CONNECT_TIMEOUT);
    let io = timeout_at(deadline, dial)
        .await
        .map_err(|_| DialError::TimedOut)??;

    match spec.scheme {
        TargetScheme::Http => Ok(Fresh::Http1(io)),
        TargetScheme::H2c => Ok(match wants {
            Offer::Http1 => Fresh::Http1(io),
            Offer::Http2 => Fresh::Http2(io),
        }),
        TargetScheme::Https => {
            let handshake = target.tls().connect(io, &spec.host, wants);
            let tls = timeout_at(deadline, handshake)
                .await
                .map_err(|_| ConnectError::HandshakeTimedOut)??;
            let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok(if http2 {
                Fresh::Http2(Box::new(tls))
            } else {
                Fresh::Http1(Box::new(tls))
            })
        }
    }
}
