//! Who a connection's client is when load balancers in front announce it with the PROXY protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::proxy_header::{Announced, Found, HeaderParser, InvalidHeader, Parsed};
use crate::handler::{Announcer, Forwarding};

/// Longest wait for a whole header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that are looked at in one go.
const WINDOW: usize = 256;

/// Why it cannot be said who the client is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnouncementError {
    /// It did not come in time.
    #[error("no complete PROXY header came in time")]
    TimedOut,
    /// The connection ended within it.
    #[error("connection ended within its PROXY header")]
    Closed,
    /// There is none, and there must be.
    #[error("trusted proxy sent no PROXY header")]
    Missing,
    /// It cannot be read.
    #[error(transparent)]
    Invalid(#[from] InvalidHeader),
    /// The connection broke.
    #[error("connection broke within its PROXY header")]
    Io(#[from] io::Error),
}

/// Takes the header off the beginning of a connection and says who the client is: who is announced, if the
/// word of the other end counts, and otherwise the other end.
///
/// What comes behind the header stays in the socket.
///
/// # Errors
/// The connection is of no use then, and is reset when it is dropped.
pub(super) async fn client(
    tcp: &mut TcpStream,
    peer: SocketAddr,
    forwarding: &Forwarding,
) -> Result<SocketAddr, AnnouncementError> {
    let announced = timeout(HEADER_TIMEOUT, take(tcp)).await;
    let announced = announced.unwrap_or(Err(AnnouncementError::TimedOut));
    let client = announced.and_then(|announced| believed(announced, peer, forwarding.announcer(peer.ip())));
    if matches!(client, Err(AnnouncementError::Missing)) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                proxy.address = %peer.ip(),
                "A trusted proxy sends no PROXY header and is turned away: let it send one, or expect none here"
            );
        });
    }
    if client.is_err() {
        SockRef::from(&*tcp).set_linger(Some(Duration::ZERO))?;
    }
    client
}

/// The client, given what was announced and what the announcer's word is worth.
fn believed(
    announced: Option<Announced>,
    peer: SocketAddr,
    announcer: Announcer,
) -> Result<SocketAddr, AnnouncementError> {
    match (announcer, announced) {
        (Announcer::Obliged, None) => Err(AnnouncementError::Missing),
        (Announcer::Obliged | Announcer::Free, Some(Announced::Client(client))) => Ok(client),
        (Announcer::Obliged, Some(Announced::Nobody))
        | (Announcer::Free, None | Some(Announced::Nobody))
        | (Announcer::Unheard, _) => Ok(peer),
    }
}

/// Takes exactly the header, if there is one. Bytes are looked at before they are taken.
async fn take(tcp: &mut TcpStream) -> Result<Option<Announced>, AnnouncementError> {
    let mut parser = HeaderParser::new();
    let mut window = [0; WINDOW];
    loop {
        let size = tcp.peek(&mut window).await?;
        if size == 0 {
            return Err(AnnouncementError::Closed);
        }
        let Parsed { taken, found } = parser.handle(&window[..size])?;
        tcp.read_exact(&mut window[..taken]).await?;
        match found {
            Found::Part => {}
            Found::Absent => return Ok(None),
            Found::Whole(announced) => return Ok(Some(announced)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::handler::ProxyProtocol;

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";

    #[test]
    fn only_the_word_of_those_who_may_speak_counts() {
        let peer: SocketAddr = "10.0.0.1:5000".parse().unwrap();
        let named: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let client = Some(Announced::Client(named));
        let nobody = Some(Announced::Nobody);
        for (announcer, announced, expected) in [
            (Announcer::Obliged, client, Some(named)),
            (Announcer::Obliged, nobody, Some(peer)),
            (Announcer::Obliged, None, None),
            (Announcer::Unheard, client, Some(peer)),
            (Announcer::Unheard, nobody, Some(peer)),
            (Announcer::Unheard, None, Some(peer)),
            (Announcer::Free, client, Some(named)),
            (Announcer::Free, nobody, Some(peer)),
            (Announcer::Free, None, Some(peer)),
        ] {
            let found = believed(announced, peer, announcer).ok();
            assert_eq!(found, expected, "{announcer:?} {announced:?}");
        }
    }

    #[tokio::test]
    async fn bytes_behind_the_header_stay() {
        let (mut sender, mut receiver) = pair().await;
        sender.write_all(&[LINE, b"hello"].concat()).await.unwrap();

        let found = client(&mut receiver, peer(), &forwarding()).await.unwrap();

        let mut rest = [0; 5];
        receiver.read_exact(&mut rest).await.unwrap();
        assert_eq!((found.to_string().as_str(), &rest), ("192.0.2.7:4711", b"hello"));
    }

    #[tokio::test]
    async fn bad_beginnings_are_reset() {
        for bytes in [&b"\x16\x03\x01"[..], b"PROXY nonsense\r\n", &LINE[..10]] {
            let (mut sender, mut receiver) = pair().await;
            sender.write_all(bytes).await.unwrap();
            sender.shutdown().await.unwrap();

            client(&mut receiver, peer(), &forwarding()).await.unwrap_err();
            drop(receiver);

            let error = sender.read(&mut [0]).await.unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::ConnectionReset,
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[tokio::test]
    async fn half_a_header_ends_in_time() {
        let (mut sender, mut receiver) = pair().await;
        sender.write_all(&LINE[..10]).await.unwrap();
        receiver.readable().await.unwrap();
        tokio::time::pause();

        let error = client(&mut receiver, peer(), &forwarding()).await.unwrap_err();

        assert!(matches!(error, AnnouncementError::TimedOut), "{error}");
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (sender, listener.accept().await.unwrap().0)
    }

    fn peer() -> SocketAddr {
        "10.0.0.1:5000".parse().unwrap()
    }

    fn forwarding() -> Forwarding {
        Forwarding {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            proxy_protocol: ProxyProtocol::On,
            ..Forwarding::default()
        }
    }
}
