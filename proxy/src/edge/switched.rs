//! Connections that have switched protocols, for WebSockets mostly: bytes both ways and nothing else.
//!
//! The engine could carry them too, but would keep its futures, channels and buffers for each of them, many times
//! what a connection that waits needs. So it is told that the client has ended as soon as its part is done.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use meshgate_mesh::{Carried, copy_either};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::connection::ActiveRequest;
use super::shares::Share;
use super::stream::WRITE_TIMEOUT;
use crate::handler::{Handler, Record};
use crate::upstream::Io;

/// A client and a target that talk to each other.
#[derive(Debug)]
pub(super) struct Switched {
    pub(super) client: Box<dyn Io>,
    pub(super) upstream: Box<dyn Io>,
    pub(super) request: Box<SwitchedRequest>,
}

/// The request with which it began: it ends when they do.
pub(super) struct SwitchedRequest {
    pub(super) handler: Arc<Handler>,
    pub(super) record: Record,
    pub(super) active: Option<ActiveRequest>,
    pub(super) share: Option<Share>,
}

impl std::fmt::Debug for SwitchedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwitchedRequest").finish_non_exhaustive()
    }
}

impl Switched {
    /// Carries bytes until one of the two ends, or `cut` is cancelled.
    pub(super) async fn carry(self, cut: &CancellationToken) {
        let Self {
            client,
            mut upstream,
            request,
        } = self;
        let mut client = Patient::new(client);
        let mut carried = Carried::default();
        tokio::select! {
            () = cut.cancelled() => {}
            copied = copy_either(&mut client, &mut upstream, &mut carried) => {
                if let Err(error) = copied {
                    tracing::debug!(%error, "A switched connection broke");
                }
            }
        }
        drop((client, upstream));
        request.end(carried);
    }
}

impl SwitchedRequest {
    fn end(self: Box<Self>, carried: Carried) {
        let Self {
            handler,
            mut record,
            active,
            share,
        } = *self;
        record.upload += carried.there;
        record.download += carried.back;
        handler.finish(record);
        drop((active, share));
    }
}

/// A client that is given up when it takes nothing for too long of what waits for it.
#[derive(Debug)]
struct Patient {
    client: Box<dyn Io>,
    /// Runs while something waits.
    clock: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(client: Box<dyn Io>) -> Self {
        Self { client, clock: None }
    }

    fn after<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.clock = None;
            return written;
        }
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        clock
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.client).poll_write(cx, buf);
        self.after(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.client).poll_flush(cx);
        self.after(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.client).poll_shutdown(cx);
        self.after(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut reader, client) = duplex(1000);
        let mut client = Patient::new(Box::new(client));
        client.write_all(&[0; 1000]).await.unwrap();
        let begun = Instant::now();
        let write = async { client.write_all(&[0; 1500]).await };
        let read = async {
            tokio::time::sleep(WRITE_TIMEOUT / 2).await;
            reader.read_exact(&mut [0; 1000]).await.unwrap();
            std::future::pending::<()>().await;
        };

        let error = tokio::select! { written = write => written.unwrap_err(), () = read => unreachable!() };

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIMEOUT + WRITE_TIMEOUT / 2);
    }
}
