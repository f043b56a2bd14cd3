//! Streams of one target that wait for their next request.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, BufWriter, ReadBuf};
use tokio::time::Instant;

use super::dial::Io;

/// Idle streams that one target keeps; the one idle for longest makes room.
pub(crate) const MAX_IDLE: usize = 256;

/// How long a stream may wait for its next request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// An upstream stream as it is kept: small writes of one head leave together.
pub(crate) type UpstreamIo = BufWriter<Box<dyn Io>>;

/// Size of the write buffer.
const WRITE_BUFFER: usize = 4 * 1024;

/// Puts the write buffer in front of a fresh stream.
pub(crate) fn buffered(io: Box<dyn Io>) -> UpstreamIo {
    BufWriter::with_capacity(WRITE_BUFFER, io)
}

/// The idle streams of one target, last in first out.
///
/// Streams in it carry nothing in either direction. One that was closed or said something unasked is
/// thrown away when it is looked at.
#[derive(Debug, Default)]
pub(crate) struct IdlePool {
    streams: Mutex<Vec<IdleStream>>,
}

#[derive(Debug)]
struct IdleStream {
    since: Instant,
    io: UpstreamIo,
}

impl IdlePool {
    /// Takes the stream that became idle last and still lives.
    pub(crate) fn take(&self, now: Instant) -> Option<UpstreamIo> {
        loop {
            let mut stream = self.streams.lock().pop()?;
            if stream.is_usable(now) {
                return Some(stream.io);
            }
        }
    }

    /// Keeps a stream whose last exchange is complete.
    pub(crate) fn put(&self, io: UpstreamIo, now: Instant) {
        let surplus = {
            let mut streams = self.streams.lock();
            let surplus = (streams.len() >= MAX_IDLE).then(|| streams.remove(0));
            streams.push(IdleStream { since: now, io });
            surplus
        };
        drop(surplus);
    }

    /// Throws away what is closed or too old; returns how many are left.
    pub(crate) fn sweep(&self, now: Instant) -> usize {
        let mut streams = self.streams.lock();
        streams.retain_mut(|stream| stream.is_usable(now));
        streams.len()
    }

    /// Number of streams.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.streams.lock().len()
    }
}

impl IdleStream {
    fn is_usable(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < IDLE_TIMEOUT && is_quiet(&mut self.io)
    }
}

/// True when a read would wait: neither an end nor bytes that nobody asked for.
fn is_quiet(io: &mut UpstreamIo) -> bool {
    let mut byte = [0; 1];
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(io)
        .poll_read(&mut context, &mut ReadBuf::new(&mut byte))
        .is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair() -> (UpstreamIo, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (buffered(Box::new(near)), far)
    }

    #[tokio::test]
    async fn gives_back_the_stream_that_came_last() {
        let pool = IdlePool::default();
        let now = Instant::now();
        let (first, _far) = pair();
        let (second, mut far) = pair();
        pool.put(first, now);
        pool.put(second, now);

        let mut taken = pool.take(now).unwrap();
        taken.write_all(b"x").await.unwrap();
        taken.flush().await.unwrap();

        let mut byte = [0; 1];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut byte)
            .await
            .unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(pool.len(), 1);
    }

    #[tokio::test]
    async fn closed_and_talkative_streams_are_never_given() {
        let pool = IdlePool::default();
        let now = Instant::now();
        let (closed, far) = pair();
        drop(far);
        let (talkative, mut far) = pair();
        far.write_all(b"HTTP/1.1 408 Request Timeout\r\n").await.unwrap();
        pool.put(closed, now);
        pool.put(talkative, now);

        assert!(pool.take(now).is_none());
        assert_eq!(pool.len(), 0);
    }

    #[tokio::test]
    async fn age_and_number_are_bounded() {
        let pool = IdlePool::default();
        let now = Instant::now();
        let far: Vec<_> = (0..=MAX_IDLE)
            .map(|_| {
                let (near, far) = pair();
                pool.put(near, now);
                far
            })
            .collect();

        assert_eq!(pool.len(), MAX_IDLE);
        assert_eq!(pool.sweep(now + IDLE_TIMEOUT), 0);
        drop(far);
    }
}
