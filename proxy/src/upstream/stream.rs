//! One upstream stream on loan to the engine's HTTP/1.1 client.
//!
//! The engine has a pool of its own that knows nothing of tenants. It looks at a stream once, without
//! waiting, before it would keep it there, and does so only after a complete and clean exchange. That look
//! is answered with an end of stream; the engine then drops the loan, and the stream goes back to the
//! target that owns it. Should an engine ever look in another way, streams are merely not used again.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connect::{NoAnswer, StalledUpload, UPLOAD_TIMEOUT};
use super::exchange::Exchange;
use super::pool::UpstreamIo;
use super::target::Target;

/// Reads to put off; each lets the engine pass on what it has for the target.
const PUT_OFF: u32 = 2;

/// Names a loan, and tells whether its stream has carried requests before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(i32);

impl ConnectionId {
    /// The next one. Numbers come again after a billion loans.
    pub(crate) fn next(reused: bool) -> Self {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0x3fff_ffff;
        Self(number << 1 | i32::from(reused))
    }

    /// Reads back what [`Self::as_raw`] gave.
    pub(crate) fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// As the engine carries it around.
    pub(crate) fn as_raw(self) -> i32 {
        self.0
    }

    /// True when the stream has carried requests before.
    pub(crate) fn is_reused(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A stream on loan.
pub(crate) struct LoanedStream {
    io: Option<UpstreamIo>,
    target: Arc<Target>,
    id: ConnectionId,
    since: SystemTime,
    clean: bool,
    /// Reads that were put off since the end of an upgrading request.
    put_off: u32,
    patience: Patience,
}

impl LoanedStream {
    /// Lends a stream of `target` for one exchange, whose final head must come within `head_timeout` after
    /// the last byte of the request that the target took.
    pub(crate) fn new(
        io: UpstreamIo,
        target: Arc<Target>,
        id: ConnectionId,
        head_timeout: Duration,
        exchange: Arc<Exchange>,
    ) -> Self {
        Self {
            io: Some(io),
            target,
            id,
            since: SystemTime::now(),
            clean: false,
            put_off: 0,
            patience: Patience::new(head_timeout, exchange),
        }
    }

    /// The engine takes the end of a request that it passes on after a switch of protocols for the end of all. A fast
    /// target's answer has to wait until that end has gone.
    fn is_early(&mut self, cx: &Context<'_>) -> bool {
        let exchange = &self.patience.exchange;
        if !exchange.is_upgrading() || self.put_off == PUT_OFF {
            return false;
        }
        if exchange.is_sent() {
            self.put_off += 1;
            cx.waker().wake_by_ref();
        }
        true
    }

    fn io(&mut self) -> Pin<&mut UpstreamIo> {
        Pin::new(self.io.as_mut().expect("only drop takes the stream"))
    }
}

impl Drop for LoanedStream {
    fn drop(&mut self) {
        let Some(io) = self.io.take() else { return };
        let empty = io.buffer().is_empty();
        if self.patience.exchange.is_switched() {
            // Without a buffer that has served its time.
            let io = if empty { io.into_inner() } else { Box::new(io) };
            self.patience.exchange.leave(io);
        } else if self.clean && empty {
            self.target.put_idle(io);
        }
    }
}

impl AsyncRead for LoanedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The engine's look before pooling: one byte, and a waker that wakes nobody. Its identity cannot
        // be compared, because every crate has its own copy of the no-op vtable.
        let look = buf.remaining() == 1 && cx.waker().data().is_null();
        if self.patience.exchange.is_switched() {
            // What the target says from here on is not for the engine; the client's side ends the wait.
            self.patience.exchange.set_drained();
            return if look { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        if self.is_early(cx) {
            return self.patience.poll_expired(cx).map(Err);
        }
        match self.io().poll_read(cx, buf) {
            Poll::Pending if look => {
                self.clean = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.patience.poll_expired(cx).map(Err),
            Poll::Ready(read) => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for LoanedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.io().poll_write(cx, buf);
        if written.is_ready() {
            self.patience.restart();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.patience.exchange.is_switched() {
            return self.io().poll_flush(cx);
        }
        self.io().poll_shutdown(cx)
    }
}

/// The wait for the rest of a body, and after it for the final head of an answer.
///
/// Interim answers and half a head end no wait. Each byte that the target takes begins it anew, so what is
/// counted while a body is coming is the client's pause and not the target's.
struct Patience {
    limit: Duration,
    since: Instant,
    exchange: Arc<Exchange>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(limit: Duration, exchange: Arc<Exchange>) -> Self {
        Self {
            limit,
            since: Instant::now(),
            exchange,
            timer: None,
        }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let (limit, error) = if self.exchange.is_uploading() {
                (UPLOAD_TIMEOUT, io::Error::from(StalledUpload))
            } else if self.exchange.is_answered() {
                self.timer = None;
                return Poll::Pending;
            } else {
                (self.limit, io::Error::from(NoAnswer))
            };
            let deadline = self.since + limit;
            if deadline <= Instant::now() {
                return Poll::Ready(error);
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for LoanedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoanedStream")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for LoanedStream {
    async fn shutdown(&mut self) {
        // The far side may be gone already; there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for LoanedStream {
    fn id(&self) -> i32 {
        self.id.as_raw()
    }
}

impl Ssl for LoanedStream {}

impl GetSocketDigest for LoanedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl GetTimingDigest for LoanedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest {
            established_ts: self.since,
            establishment_duration: None,
            offload_wait_duration: None,
        })]
    }
}

impl GetProxyDigest for LoanedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

#[async_trait]
impl Peek for LoanedStream {}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait(patience: &mut Patience) -> io::Error {
        std::future::poll_fn(|cx| patience.poll_expired(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_final_head_ends_the_wait_for_it() {
        let exchange = Arc::new(Exchange::default());
        let mut patience = Patience::new(Duration::from_secs(10), Arc::clone(&exchange));
        let begun = Instant::now();

        let error = wait(&mut patience).await;
        let waited = begun.elapsed();
        exchange.set_answered();
        let answered = tokio::time::timeout(Duration::from_hours(1), wait(&mut patience)).await;

        assert!(
            error
                .get_ref()
                .is_some_and(<dyn std::error::Error + Send + Sync>::is::<NoAnswer>)
        );
        assert_eq!(waited.as_secs(), 10);
        assert!(answered.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_of_a_client_are_its_own() {
        let exchange = Arc::new(Exchange::default());
        exchange.set_uploading(true);
        let mut patience = Patience::new(Duration::from_secs(10), Arc::clone(&exchange));
        tokio::time::sleep(Duration::from_secs(30)).await;
        patience.restart();
        let begun = Instant::now();

        let error = wait(&mut patience).await;

        assert!(
            error
                .get_ref()
                .is_some_and(<dyn std::error::Error + Send + Sync>::is::<StalledUpload>)
        );
        assert_eq!(begun.elapsed().as_secs(), UPLOAD_TIMEOUT.as_secs());
    }
}
