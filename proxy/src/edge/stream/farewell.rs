//! The last words to a client whose head is refused.
//!
//! Closing a socket on unread bytes resets it, and the reset may overtake the answer. So the answer goes
//! out, then the end of our side, and then the rest of what the client sends is read for a moment.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Longest time for all of it.
const TIME: Duration = Duration::from_secs(2);

/// Most bytes that are read to no purpose.
const MOST_BYTES: usize = 1024 * 1024;

/// An answer on its way, and the end behind it.
#[derive(Debug)]
pub(super) struct Farewell {
    left: &'static [u8],
    closed: bool,
    read: usize,
    clock: Pin<Box<Sleep>>,
}

impl Farewell {
    /// Says `answer` and nothing more.
    pub(super) fn new(answer: &'static [u8]) -> Self {
        Self {
            left: answer,
            closed: false,
            read: 0,
            clock: Box::pin(tokio::time::sleep(TIME)),
        }
    }

    /// Ready when the stream can be dropped.
    pub(super) fn poll<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.poll_said(io, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.clock.as_mut().poll(cx),
        }
    }

    fn poll_said<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while !self.left.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(cx, self.left)) {
                Ok(size @ 1..) => self.left = &self.left[size..],
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        if !self.closed {
            if ready!(Pin::new(&mut *io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.closed = true;
        }
        let mut scratch = [0; 4096];
        while self.read < MOST_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
            self.read += buf.filled().len();
        }
        Poll::Ready(())
    }
}
