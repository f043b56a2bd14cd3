//! One TCP connection on smoltcp: an interface of its own with one socket.
//!
//! smoltcp walks all sockets of an interface for every packet and timer; with one socket each, nothing depends on how
//! many connections exist. This module is also the boundary behind which TCP can be replaced: nothing outside it and
//! [`link`](super::link) names smoltcp's interfaces or sockets.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration as StackDuration, Instant as StackInstant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};

use super::link::{Blueprint, Link};
use super::packet::Segment;
use crate::Buffers;

/// Wait for more data before acknowledging.
const ACK_DELAY: StackDuration = StackDuration::from_millis(10);
/// Data that the other side does not acknowledge for so long ends the connection.
const USER_TIMEOUT: StackDuration = StackDuration::from_secs(120);

pub(crate) struct Tcp {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Where the window of our SYN-ACK ends, until a segment announced a scaled one.
    first_edge: Option<u32>,
    fault: Fault,
}

/// Whether smoltcp panicked on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    New,
    Counted,
}

/// What a connection is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) mtu: u16,
    pub(crate) buffers: Buffers,
    /// Seeds the initial sequence number.
    pub(crate) seed: u64,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for a SYN.
    Listening,
    /// The handshake is under way.
    Opening,
    /// Data flows, or one side has finished.
    Open,
    /// Both sides finished; only a lost ACK may still be asked for.
    TimeWait,
    /// Over.
    Closed,
}

/// Outcome of [`Tcp::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Data(usize),
    Finished,
    Pending,
    Broken,
}

/// Outcome of [`Tcp::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Bytes(usize),
    Pending,
    Broken,
}

impl Tcp {
    /// Starts a connection; the SYN leaves with the next [`Tcp::transmit`].
    pub(crate) fn connect(setup: &Setup) -> Option<Self> {
        let mut this = Self::new(setup);
        let socket = this.sockets.get_mut::<tcp::Socket<'_>>(this.handle);
        socket
            .connect(this.interface.context(), setup.remote, setup.local)
            .ok()?;
        Some(this)
    }

    /// Makes the answering side; the SYN with this sequence number is handed in next.
    pub(crate) fn listen(setup: &Setup, sequence: u32) -> Option<Self> {
        let mut this = Self::new(setup);
        let endpoint = IpListenEndpoint {
            addr: Some(setup.local.ip().into()),
            port: setup.local.port(),
        };
        this.socket().listen(endpoint).ok()?;
        let window = u16::try_from(setup.buffers.receive).unwrap_or(u16::MAX);
        this.first_edge = Some(sequence.wrapping_add(1).wrapping_add(u32::from(window)));
        Some(this)
    }

    /// Takes the segment waiting in `link`; immediate answers go to the link too.
    pub(crate) fn receive(&mut self, epoch: Instant, segment: &Segment, link: &mut Link<'_>) {
        if self.exceeds_first_window(segment) {
            return;
        }
        let now = stack_time(epoch, link.now);
        self.guard(|this| {
            this.interface.poll_ingress_single(now, link, &mut this.sockets);
        });
        self.note_announced(link);
    }

    /// Sends what may be sent, until nothing is left or the link is full.
    pub(crate) fn transmit(&mut self, epoch: Instant, link: &mut Link<'_>) {
        let now = stack_time(epoch, link.now);
        self.guard(|this| {
            let timeout = (this.socket().send_queue() > 0).then_some(USER_TIMEOUT);
            this.socket().set_timeout(timeout);
            while this.interface.poll_egress(now, link, &mut this.sockets) == PollResult::SocketStateChanged {
            }
            // A probe is asked for each time; the timer that is already wound up fires once more.
            this.socket().set_keep_alive(None);
        });
        self.note_announced(link);
    }

    /// When [`Tcp::transmit`] wants to run next.
    pub(crate) fn poll_at(&mut self, epoch: Instant, now: Instant) -> Option<Instant> {
        let now = stack_time(epoch, now);
        let at = self.guard(|this| this.interface.poll_at(now, &this.sockets))??;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        Some(epoch + Duration::from_micros(micros))
    }

    /// Says once that smoltcp panicked on this connection, which is closed since.
    pub(crate) fn take_fault(&mut self) -> bool {
        let new = self.fault == Fault::New;
        if new {
            self.fault = Fault::Counted;
        }
        new
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.sockets.get::<tcp::Socket<'_>>(self.handle).state() {
            tcp::State::Listen => Phase::Listening,
            tcp::State::SynSent | tcp::State::SynReceived => Phase::Opening,
            tcp::State::Established
            | tcp::State::FinWait1
            | tcp::State::FinWait2
            | tcp::State::CloseWait
            | tcp::State::Closing
            | tcp::State::LastAck => Phase::Open,
            tcp::State::TimeWait => Phase::TimeWait,
            tcp::State::Closed => Phase::Closed,
        }
    }

    /// Whether the other side has sent its FIN and everything before it came.
    pub(crate) fn remote_finished(&self) -> bool {
        let state = self.sockets.get::<tcp::Socket<'_>>(self.handle).state();
        matches!(
            state,
            tcp::State::CloseWait | tcp::State::LastAck | tcp::State::Closing | tcp::State::TimeWait
        )
    }

    pub(crate) fn receive_capacity(&self) -> usize {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).recv_capacity()
    }

    /// Bytes received and not yet read.
    pub(crate) fn unread(&self) -> usize {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).recv_queue()
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8], waker: &Waker) -> Read {
        let socket = self.socket();
        if matches!(
            socket.state(),
            tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen
        ) {
            socket.register_recv_waker(waker);
            return Read::Pending;
        }
        match socket.recv_slice(buffer) {
            Ok(0) if !buffer.is_empty() => {
                socket.register_recv_waker(waker);
                Read::Pending
            }
            Ok(len) => Read::Data(len),
            Err(tcp::RecvError::Finished) => Read::Finished,
            Err(tcp::RecvError::InvalidState) => Read::Broken,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8], waker: &Waker) -> Written {
        let socket = self.socket();
        if matches!(
            socket.state(),
            tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen
        ) {
            socket.register_send_waker(waker);
            return Written::Pending;
        }
        match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(waker);
                Written::Pending
            }
            Ok(len) => Written::Bytes(len),
            Err(tcp::SendError::InvalidState) => Written::Broken,
        }
    }

    /// Wakes `waker` when the phase changes.
    pub(crate) fn register(&mut self, waker: &Waker) {
        self.socket().register_recv_waker(waker);
    }

    /// Bytes written and not yet acknowledged; `waker` is woken when some were.
    pub(crate) fn unacknowledged(&mut self, waker: &Waker) -> usize {
        let socket = self.socket();
        socket.register_send_waker(waker);
        socket.send_queue()
    }

    /// Sends FIN after everything written.
    pub(crate) fn close(&mut self) {
        self.socket().close();
    }

    /// Ends at once; the next [`Tcp::transmit`] sends RST.
    pub(crate) fn abort(&mut self) {
        self.socket().abort();
    }

    /// Asks the other side for a sign of life, which it gives whatever its application does.
    pub(crate) fn probe(&mut self, every: Duration) {
        let socket = self.socket();
        let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        socket.set_keep_alive(Some(StackDuration::from_millis(millis)));
    }

    fn new(setup: &Setup) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = setup.seed;
        let mut interface = Interface::new(config, &mut Blueprint(setup.mtu), StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // Prefix length 0: every destination is on this link, no route is needed.
            let full = addresses
                .push(IpCidr::new(IpAddress::from(setup.local.ip()), 0))
                .is_err();
            debug_assert!(!full, "a new interface has room for one address");
        });
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; setup.buffers.receive]),
            tcp::SocketBuffer::new(vec![0; setup.buffers.transmit]),
        );
        socket.set_ack_delay(Some(ACK_DELAY));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            interface,
            sockets,
            handle,
            first_edge: None,
            fault: Fault::None,
        }
    }

    /// smoltcp takes the window of our SYN-ACK for a scaled one, up to 128 times too large, and would let data in that
    /// its buffer has no place for.
    fn exceeds_first_window(&self, segment: &Segment) -> bool {
        let payload = u32::try_from(segment.payload_len).unwrap_or(u32::MAX);
        let end = segment.sequence.wrapping_add(payload);
        self.first_edge
            .is_some_and(|edge| payload > 0 && end.wrapping_sub(edge).cast_signed() > 0)
    }

    fn note_announced(&mut self, link: &Link<'_>) {
        if link.announced.get() {
            self.first_edge = None;
        }
    }

    /// Runs smoltcp on this connection. It checks sequence arithmetic by panicking, and what a peer sends must never
    /// end more than the connection it was sent on.
    fn guard<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.fault != Fault::None {
            return None;
        }
        // Nothing of a connection that panicked is looked at again but its state and what it received.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self)));
        if outcome.is_err() {
            self.fault = Fault::New;
            self.socket().abort();
        }
        outcome.ok()
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp")
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

fn stack_time(epoch: Instant, now: Instant) -> StackInstant {
    let micros = now.saturating_duration_since(epoch).as_micros();
    StackInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
