//! A TCP connection as its owner and the node share it.
//!
//! The one lock of a connection is held by its owner while bytes are copied and by the node while it sends or
//! receives for this connection; owners never wait for each other or for the node as a whole.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::{Mutex, MutexGuard};

use crate::kick::Kick;
use crate::tcp::{Phase, Read, Tcp, Written};
use crate::{ConnectError, Failure, PublicKey};

/// A connection's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) peer: PublicKey,
    kick: Arc<Kick>,
    marked: AtomicBool,
    /// Its owner wrote something and has read nothing since: somebody waits for an answer.
    awaiting: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tcp: Tcp,
    pub(crate) failure: Option<Failure>,
    /// Its owner is gone.
    pub(crate) released: bool,
    /// Its owner left data unread.
    reset: bool,
    finished: bool,
}

impl State {
    /// Ends the connection with a reset although nothing failed: nobody will read what came.
    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.tcp.abort();
    }

    /// One side ended it without the other.
    pub(crate) fn is_broken(&self) -> bool {
        self.reset || self.failure.is_some()
    }

    /// Ends the connection for the owner; a reset is sent if there is still somebody to send it to.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if self.tcp.phase() != Phase::Closed {
            self.failure.get_or_insert(failure);
            self.tcp.abort();
        }
    }
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
        peer: PublicKey,
        kick: Arc<Kick>,
        tcp: Tcp,
    ) -> Self {
        let state = State {
            tcp,
            failure: None,
            released: false,
            reset: false,
            finished: false,
        };
        Self {
            id,
            local,
            remote,
            peer,
            kick,
            marked: AtomicBool::new(false),
            awaiting: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        self.awaiting.load(Ordering::Relaxed)
    }

    /// The node is about to look at it: later news need a new mark.
    pub(crate) fn unmark(&self) {
        self.marked.store(false, Ordering::Release);
    }

    fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.kick.mark(self.id);
        }
    }
}

/// The owner's side of a connection.
///
/// Every method is safe to call from any thread; the node notices what was done at its next turn. Dropping closes:
/// FIN, or RST when received data was not read.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
}

impl Stream {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    /// Our address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.connection.local
    }

    /// The address and port of the other side.
    pub fn peer_addr(&self) -> SocketAddr {
        self.connection.remote
    }

    /// The peer at the other side.
    pub fn peer(&self) -> PublicKey {
        self.connection.peer
    }

    /// Ready when the handshake is over.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        let mut state = self.connection.lock();
        if let Some(failure) = state.failure {
            return Poll::Ready(Err(failure.into()));
        }
        match state.tcp.phase() {
            Phase::Opening => {
                state.tcp.register(cx.waker());
                Poll::Pending
            }
            Phase::Open | Phase::TimeWait => Poll::Ready(Ok(())),
            Phase::Closed if state.tcp.unread() > 0 => Poll::Ready(Ok(())),
            Phase::Closed => Poll::Ready(Err(ConnectError::Reset)),
        }
    }

    /// Reads into `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// A [`Failure`] inside the `io::Error`, after everything that came before it was read.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut rest = &mut *buffer;
        self.poll_read_with(cx, rest.len(), |bytes| {
            let (piece, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            piece.copy_from_slice(bytes);
            rest = behind;
        })
    }

    /// Hands at most `room` bytes to `take`, in one or two pieces, and says how many; 0 is the end of the stream.
    ///
    /// `take` runs under the connection's lock and must be quick.
    ///
    /// # Errors
    /// As [`poll_read`](Self::poll_read).
    pub fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut state = self.connection.lock();
        match state.tcp.read(room, cx.waker(), take) {
            Read::Pending => Poll::Pending,
            Read::Finished => {
                self.connection.awaiting.store(false, Ordering::Relaxed);
                Poll::Ready(Ok(0))
            }
            Read::Broken => Poll::Ready(Err(state.failure.unwrap_or(Failure::Reset).into())),
            Read::Data(len) => {
                let announce = state.tcp.has_window_news();
                drop(state);
                self.connection.awaiting.store(false, Ordering::Relaxed);
                if announce {
                    self.connection.mark();
                }
                Poll::Ready(Ok(len))
            }
        }
    }

    /// Takes as many of `buffers`' bytes as there is room for.
    pub fn poll_write(&self, cx: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.connection.lock();
        if state.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut total = 0;
        for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
            match state.tcp.write(buffer, cx.waker()) {
                Written::Bytes(len) => {
                    total += len;
                    if len < buffer.len() {
                        break;
                    }
                }
                Written::Pending => break,
                Written::Broken if total > 0 => break,
                Written::Broken => return Poll::Ready(Err(state.failure.unwrap_or(Failure::Reset).into())),
            }
        }
        drop(state);
        if total == 0 && buffers.iter().any(|buffer| !buffer.is_empty()) {
            return Poll::Pending;
        }
        if total > 0 {
            self.connection.awaiting.store(true, Ordering::Relaxed);
            self.connection.mark();
        }
        Poll::Ready(Ok(total))
    }

    /// Sends FIN after everything written. Reading goes on. Does nothing the second time.
    pub fn shutdown(&self) {
        let mut state = self.connection.lock();
        if state.finished {
            return;
        }
        state.finished = true;
        state.tcp.close();
        drop(state);
        self.connection.mark();
    }

    /// Ends the connection with a reset.
    pub fn abort(&self) {
        self.connection.lock().fail(Failure::Aborted);
        self.connection.mark();
    }

    /// Ready when everything written, and a FIN, was acknowledged, or the connection is over.
    pub fn poll_acknowledged(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.connection.lock();
        if state.tcp.phase() == Phase::Closed || state.tcp.unacknowledged(cx.waker()) == 0 {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.connection.lock();
        state.released = true;
        if state.tcp.unread() > 0 {
            state.reset();
        } else {
            state.tcp.close();
        }
        drop(state);
        self.connection.mark();
    }
}
