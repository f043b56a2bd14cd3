//! A TCP stream inside the tunnel.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use meshgate_netstack_core::{PublicKey, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

/// A TCP stream inside the tunnel.
///
/// `shutdown` sends FIN and leaves reading open. Dropping closes: FIN, or RST when received data was not read.
/// Errors carry a [`Failure`](crate::Failure) as their source. A stream does not keep its netstack alive: when the
/// last [`Netstack`](crate::Netstack) handle goes, streams are reset.
#[derive(Debug)]
pub struct TcpStream {
    stream: Stream,
}

impl TcpStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream }
    }

    /// Our overlay address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    /// The peer's overlay address and port.
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    /// The key of the peer at the other end.
    pub fn peer(&self) -> PublicKey {
        self.stream.peer()
    }

    /// Ends the connection with a reset.
    pub fn abort(&self) {
        self.stream.abort();
    }

    /// Waits until the peer has acknowledged everything written, or the connection is over.
    pub async fn acknowledged(&self) {
        std::future::poll_fn(|cx| self.stream.poll_acknowledged(cx)).await;
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let budget = ready!(poll_proceed(cx));
        // Asking for initialized memory would write zeros over all of a large buffer for each small message.
        ready!(
            self.stream
                .poll_read_with(cx, buf.remaining(), |bytes| buf.put_slice(bytes))
        )?;
        budget.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        let len = ready!(self.stream.poll_write(cx, bufs))?;
        budget.made_progress();
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.shutdown();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    #[test]
    fn fits_where_streams_go() {
        fn fits<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug + 'static>() {}

        fits::<TcpStream>();
    }
}
