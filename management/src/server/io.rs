//! A connection that has to say something soon.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes after which the HTTP server has its own time limits: the length of the HTTP/2 preface.
const ENOUGH: usize = 24;

/// Fails reading when the first bytes do not come in time.
#[derive(Debug)]
pub(super) struct FirstBytes<S> {
    inner: S,
    read: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> FirstBytes<S> {
    /// The time starts now.
    pub(super) fn new(inner: S, limit: Duration) -> Self {
        Self {
            inner,
            read: 0,
            deadline: Some(Box::pin(sleep(limit))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Some(deadline) = &mut self.deadline else {
            return result;
        };
        if result.is_pending() {
            return deadline
                .as_mut()
                .poll(cx)
                .map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        self.read += buf.filled().len() - before;
        if self.read >= ENOUGH {
            self.deadline = None;
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_given_up() {
        let (_client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, Duration::from_secs(10));

        let error = server.read_u8().await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_first_bytes_silence_is_allowed() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, Duration::from_secs(10));
        client.write_all(&[0; ENOUGH]).await.unwrap();
        server.read_exact(&mut [0; ENOUGH]).await.unwrap();

        let waited = tokio::time::timeout(Duration::from_mins(1), server.read_u8()).await;

        assert!(waited.is_err());
    }
}
