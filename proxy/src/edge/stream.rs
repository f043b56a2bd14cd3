//! A client's stream as the engine gets it, with the limits that the engine lacks.
//!
//! The engine reads bodies over HTTP/2 without any time limit, waits a minute for every single read of a
//! head, and lets WebSockets live for as long as they like. Here a connection ends when it is cut, when no
//! request comes, when a head or a body stops coming, and when the client stops reading.

mod farewell;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pingora_core::protocols::l4::socket::SocketAddr as EngineAddress;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID,
};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use self::farewell::Farewell;
use super::connection::EdgeConnection;
use super::guard::{Guard, Look};
use crate::upstream::{Exchange, Io, UPLOAD_TIMEOUT};

/// Longest time between the first byte of an HTTP/1.1 head and its end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time without any request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Longest time in which the client takes nothing of what waits for it.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_mins(2);

/// How often a connection with requests is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Size of the write buffer: head and body of a small answer leave in one TLS record.
const WRITE_BUFFER: usize = 16 * 1024;

/// Looks in a row at which the engine has nothing to do, before it is told to let a switched connection go.
const QUIET_LOOKS: u32 = 3;

/// Looks that follow each other at once, and the pause between further ones.
const QUICK_LOOKS: u32 = 50;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What was negotiated for a connection.
#[derive(Clone, Debug)]
pub(crate) struct Negotiated {
    /// HTTP/2, otherwise HTTP/1.1.
    pub(crate) http2: bool,
    /// Cipher suite.
    pub(crate) cipher: &'static str,
    /// TLS version.
    pub(crate) version: &'static str,
    /// Descriptor of the socket.
    pub(crate) fd: RawFd,
    /// Our end of the socket.
    pub(crate) local: SocketAddr,
}

/// A client's stream.
#[derive(Debug)]
pub(crate) struct EdgeIo<S: Io> {
    /// Only dropping takes it.
    io: Option<BufWriter<S>>,
    connection: Arc<EdgeConnection>,
    negotiated: Negotiated,
    ssl: Arc<SslDigest>,
    socket: Arc<SocketDigest>,
    proxy: Arc<ProxyDigest>,
    since: SystemTime,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    clock: Pin<Box<Sleep>>,
    progress: Progress,
    guard: Guard,
    /// Requests that had begun when the last head passed.
    begun: u64,
    farewell: Option<Farewell>,
    /// How often the engine was looked at since its connection switched protocols, and how often in a row it had
    /// nothing to do.
    looks: u32,
    quiet_looks: u32,
}

/// When things last moved.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// First byte of a head that has not all come.
    head_since: Option<Instant>,
    last_read: Instant,
    write_blocked_since: Option<Instant>,
}

impl<S: Io> EdgeIo<S> {
    /// Wraps a stream after its handshake.
    pub(crate) fn new(io: S, connection: Arc<EdgeConnection>, negotiated: Negotiated) -> Self {
        let now = Instant::now();
        let ssl = SslDigest::new(negotiated.cipher, negotiated.version, None, None, Vec::new());
        // The way by which requests find their connection: the engine carries this value through.
        let user_data = Box::new(Arc::clone(&connection));
        let response = ResponseHeader::from(http::Response::new(()).into_parts().0);
        Self {
            io: Some(BufWriter::with_capacity(WRITE_BUFFER, io)),
            socket: Arc::new(socket_digest(&connection, &negotiated)),
            ssl: Arc::new(ssl),
            proxy: Arc::new(ProxyDigest::new(Box::new(response), Some(user_data))),
            since: SystemTime::now(),
            cut: Box::pin(connection.cut().clone().cancelled_owned()),
            clock: Box::pin(tokio::time::sleep(IDLE_TIMEOUT)),
            progress: Progress {
                head_since: None,
                last_read: now,
                write_blocked_since: None,
            },
            guard: Guard::new(),
            begun: 0,
            farewell: None,
            looks: 0,
            quiet_looks: 0,
            connection,
            negotiated,
        }
    }

    /// What is known of the connection.
    pub(super) fn connection(&self) -> Arc<EdgeConnection> {
        Arc::clone(&self.connection)
    }

    /// Ready when the connection must end. Called whenever the stream would otherwise wait.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            let now = Instant::now();
            let deadline = self.next_deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            // Requests begin and end without this stream being asked, so it looks again now and then.
            let look = now + CHECK_INTERVAL;
            let next = deadline.map_or(look, |deadline| deadline.min(look));
            if self.clock.is_elapsed() || self.clock.deadline() > next {
                self.clock.as_mut().reset(next);
            }
            if self.clock.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes, and leaves out the engine's name where it answers a broken request all by itself.
    fn poll_write_inner(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let own_answer = !self.negotiated.http2 && self.connection.activity().requests == 0;
        if own_answer {
            self.guard.expect_head();
        }
        let Some(nameless) = own_answer.then(|| without_engine_name(buf)).flatten() else {
            return self.io().poll_write(cx, buf);
        };
        // Such an answer is the first thing in the buffer and far smaller than that.
        match self.io().poll_write(cx, &nameless) {
            Poll::Ready(Ok(size)) if size == nameless.len() => Poll::Ready(Ok(buf.len())),
            Poll::Ready(Ok(_)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let activity = self.connection.activity();
        let idle = (activity.requests == 0).then(|| activity.idle_since + IDLE_TIMEOUT);
        let head = self.progress.head_since.map(|since| since + HEAD_TIMEOUT);
        // Where requests share a connection, their own streams to the targets look after this.
        let uploads = activity.uploads > 0 && !self.negotiated.http2;
        let upload = uploads.then(|| self.progress.last_read + UPLOAD_TIMEOUT + CHECK_INTERVAL);
        let write = self
            .progress
            .write_blocked_since
            .map(|since| since + WRITE_TIMEOUT);
        [idle, head, upload, write].into_iter().flatten().min()
    }

    /// Reads for HTTP/1.1, where the engine gets a head only once all of it has come and is well formed.
    fn poll_read_guarded(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(farewell) = &mut self.farewell {
            let io = self.io.as_mut().expect("only dropping takes it");
            return farewell.poll(io, cx).map(Ok);
        }
        if !self.guard.has_passed()
            && let Some(exchange) = self.connection.switching()
        {
            return self.poll_leave(cx, &exchange).map(Ok);
        }
        let activity = self.connection.activity();
        if activity.requests == 0 && activity.begun > self.begun {
            self.guard.expect_head();
        }
        loop {
            if self.guard.has_passed() {
                buf.put_slice(self.guard.give(buf.remaining()));
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            let read = self.io().poll_read(cx, buf);
            if read.is_pending() {
                return self.poll_end(cx).map(|_| Ok(()));
            }
            if buf.filled().len() == before {
                return read;
            }
            self.progress.last_read = Instant::now();
            match self.guard.look(&buf.filled()[before..]) {
                Ok(Look::Pass) => {
                    self.note_passed();
                    return read;
                }
                Ok(Look::Give) => self.note_passed(),
                Ok(Look::Hold) => {
                    self.progress.head_since.get_or_insert_with(Instant::now);
                }
                Ok(Look::Refuse(refusal)) => {
                    buf.set_filled(before);
                    let farewell = self.farewell.insert(Farewell::new(refusal.answer()));
                    let io = self.io.as_mut().expect("only dropping takes it");
                    return farewell.poll(io, cx).map(Ok);
                }
                Err(error) => {
                    buf.set_filled(before);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
            buf.set_filled(before);
        }
    }

    /// Ready, as an end of stream, once the engine has nothing left to pass on in either direction.
    ///
    /// Each look lets it do everything else it can do. Whatever it writes begins the count anew.
    fn poll_leave(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Poll<()> {
        if self.quiet_looks >= QUIET_LOOKS {
            self.connection.set_leaving();
            return Poll::Ready(());
        }
        self.looks += 1;
        if exchange.is_drained() {
            self.quiet_looks += 1;
        }
        if self.looks <= QUICK_LOOKS {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // The target does not even take what came along with the request.
        self.clock.as_mut().reset(Instant::now() + LOOK_INTERVAL);
        let _ = self.clock.as_mut().poll(cx);
        Poll::Pending
    }

    fn io(&mut self) -> Pin<&mut BufWriter<S>> {
        Pin::new(self.io.as_mut().expect("only dropping takes it"))
    }

    fn note_passed(&mut self) {
        self.progress.head_since = None;
        let activity = self.connection.activity();
        if activity.requests == 0 {
            self.begun = activity.begun;
        }
    }

    fn after_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.quiet_looks = 0;
        if written.is_ready() {
            self.progress.write_blocked_since = None;
            return written;
        }
        self.progress.write_blocked_since.get_or_insert_with(Instant::now);
        self.poll_end(cx).map(Err)
    }
}

/// The head of an error answer without its `Server` line, if that is what it is.
fn without_engine_name(buf: &[u8]) -> Option<Vec<u8>> {
    const LINE: &[u8] = b"Server: Pingora\r\n";
    let is_error = buf.starts_with(b"HTTP/1.1 4") || buf.starts_with(b"HTTP/1.0 4");
    let at = buf
        .windows(LINE.len())
        .position(|window| window == LINE)
        .filter(|_| is_error)?;
    Some([&buf[..at], &buf[at + LINE.len()..]].concat())
}

fn socket_digest(connection: &EdgeConnection, negotiated: &Negotiated) -> SocketDigest {
    let digest = SocketDigest::from_raw_fd(negotiated.fd);
    // Both cells are new, so nothing can be in them yet.
    let _ = digest.peer_addr.set(Some(EngineAddress::Inet(connection.peer)));
    let _ = digest.local_addr.set(Some(EngineAddress::Inet(negotiated.local)));
    digest
}

impl<S: Io> AsyncRead for EdgeIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connection.cut().is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        if !self.negotiated.http2 {
            return self.poll_read_guarded(cx, buf);
        }
        let before = buf.filled().len();
        let read = self.io().poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_end(cx).map(|_| Ok(()));
        }
        if buf.filled().len() > before {
            self.progress.last_read = Instant::now();
        }
        read
    }
}

impl<S: Io> AsyncWrite for EdgeIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.cut().is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = self.poll_write_inner(cx, buf);
        self.after_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.io().poll_flush(cx);
        self.after_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.is_leaving() {
            return Poll::Ready(Ok(()));
        }
        let closed = self.io().poll_shutdown(cx);
        self.after_write(cx, closed)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.connection.cut().is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = self.io().poll_write_vectored(cx, bufs);
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

impl<S: Io> Drop for EdgeIo<S> {
    fn drop(&mut self) {
        if self.connection.is_leaving()
            && let Some(io) = self.io.take()
        {
            // Without a buffer that has served its time.
            let client: Box<dyn Io> = if io.buffer().is_empty() {
                Box::new(io.into_inner())
            } else {
                Box::new(io)
            };
            self.connection.keep_client(client);
        }
    }
}

#[async_trait]
impl<S: Io> Shutdown for EdgeIo<S> {
    async fn shutdown(&mut self) {
        // The client may be gone already; there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl<S: Io> UniqueID for EdgeIo<S> {
    fn id(&self) -> i32 {
        self.negotiated.fd
    }
}

impl<S: Io> Ssl for EdgeIo<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(Arc::clone(&self.ssl))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.negotiated.http2 { ALPN::H2 } else { ALPN::H1 })
    }
}

impl<S: Io> GetTimingDigest for EdgeIo<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest {
            established_ts: self.since,
            establishment_duration: None,
            offload_wait_duration: None,
        })]
    }
}

impl<S: Io> GetProxyDigest for EdgeIo<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.proxy))
    }
}

impl<S: Io> GetSocketDigest for EdgeIo<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

#[async_trait]
impl<S: Io> Peek for EdgeIo<S> {}

#[cfg(test)]
mod tests;
