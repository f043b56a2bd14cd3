//! A TCP stream inside the tunnel.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use meshgate_netstack_core::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TCP stream inside the tunnel.
///
/// `shutdown` sends FIN and leaves reading open. Dropping closes: FIN, or RST when received data was not read.
#[derive(Debug)]
pub struct TcpStream {}

impl TcpStream {
    /// Our overlay address and port.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// The peer's overlay address and port.
    pub fn peer_addr(&self) -> SocketAddr {
        todo!()
    }

    /// The key of the peer at the other end.
    pub fn peer(&self) -> PublicKey {
        todo!()
    }

    /// Ends the connection with a reset.
    pub fn abort(&self) {
        todo!()
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        todo!()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
}
