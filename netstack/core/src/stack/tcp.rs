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

use super::holes::Holes;
use super::link::{Blueprint, Link};
use super::packet::Segment;
use super::rings::Rings;
use super::stretch::Stretch;
use crate::Buffers;

/// Wait for more data before acknowledging.
const ACK_DELAY: StackDuration = StackDuration::from_millis(10);
/// Repeated acknowledgements after which smoltcp takes a segment for lost.
const PROOF_OF_LOSS: usize = 3;
/// Headers of IPv4 and TCP, the smallest there are.
const HEADERS: u16 = 40;
/// Data that the other side does not acknowledge for so long ends the connection.
const USER_TIMEOUT: StackDuration = StackDuration::from_secs(120);

pub(crate) struct Tcp {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    rings: Rings,
    /// Something was put into the rings since their memory was given back.
    warm: bool,
    arrivals: Arrivals,
    stretch: Stretch,
    holes: Holes,
    /// Where the window of our SYN-ACK ends, until a segment announced a scaled one.
    first_edge: Option<u32>,
    fault: Fault,
}

/// What came, as far as it tells whether something waits behind a gap.
#[derive(Debug, Clone, Copy, Default)]
struct Arrivals {
    /// Sequence number behind what the owner has read; known from the SYN on.
    read: Option<u32>,
    /// The furthest that any payload reached.
    furthest: u32,
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
        let mut this = Self::new(setup)?;
        let socket = this.sockets.get_mut::<tcp::Socket<'_>>(this.handle);
        socket
            .connect(this.interface.context(), setup.remote, setup.local)
            .ok()?;
        Some(this)
    }

    /// Makes the answering side; the SYN with this sequence number is handed in next.
    pub(crate) fn listen(setup: &Setup, sequence: u32) -> Option<Self> {
        let mut this = Self::new(setup)?;
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
        if self.exceeds_first_window(segment) || self.comes_behind_end(segment) {
            return;
        }
        let now = stack_time(epoch, link.now);
        let packet = link.received.unwrap_or_default();
        let pieces = self.stretch.cut(packet, segment);
        let repeats = if self.holes.shows(packet, segment) {
            PROOF_OF_LOSS
        } else {
            0
        };
        self.guard(|this| {
            for piece in pieces.into_iter().flatten() {
                let mut link = link.with(&piece);
                this.interface
                    .poll_ingress_single(now, &mut link, &mut this.sockets);
            }
            this.interface.poll_ingress_single(now, link, &mut this.sockets);
            for _ in 0..repeats {
                let mut link = link.with(packet);
                this.interface
                    .poll_ingress_single(now, &mut link, &mut this.sockets);
            }
        });
        self.warm |= segment.payload_len > 0;
        let refused = matches!(self.socket().state(), tcp::State::SynSent | tcp::State::Listen);
        if !refused {
            self.arrivals.note(segment);
        }
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

    /// Hands at most `room` received bytes to `take`, in one or two pieces.
    pub(crate) fn read(&mut self, room: usize, waker: &Waker, mut take: impl FnMut(&[u8])) -> Read {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if matches!(
            socket.state(),
            tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen
        ) {
            socket.register_recv_waker(waker);
            return Read::Pending;
        }
        let mut total = 0;
        while total < room {
            let taken = socket.recv(|bytes| {
                let len = bytes.len().min(room - total);
                take(&bytes[..len]);
                (len, len)
            });
            match taken {
                Ok(0) if total == 0 => {
                    socket.register_recv_waker(waker);
                    return Read::Pending;
                }
                Ok(0) => break,
                Ok(len) => total += len,
                Err(_) if total > 0 => break,
                Err(tcp::RecvError::Finished) => return Read::Finished,
                Err(tcp::RecvError::InvalidState) => return Read::Broken,
            }
        }
        self.arrivals.take(total);
        Read::Data(total)
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
            Ok(len) => {
                self.warm = true;
                Written::Bytes(len)
            }
            Err(tcp::SendError::InvalidState) => Written::Broken,
        }
    }

    /// Whether its buffers hold memory.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm
    }

    /// Gives the memory of its buffers back, if nothing is in them; says whether it did.
    pub(crate) fn cool(&mut self) -> bool {
        let unacknowledged = self.socket().send_queue();
        if self.unread() > 0 || unacknowledged > 0 || self.arrivals.has_gap() {
            return false;
        }
        self.rings.release();
        self.warm = false;
        true
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

    /// `None` when there is no memory for its buffers.
    fn new(setup: &Setup) -> Option<Self> {
        let mut rings = Rings::new(setup.buffers)?;
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
        let [receive, transmit] = lend(&mut rings);
        let mut socket = tcp::Socket::new(receive, transmit);
        socket.set_ack_delay(Some(ACK_DELAY));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Self {
            interface,
            sockets,
            handle,
            rings,
            warm: false,
            arrivals: Arrivals::default(),
            stretch: Stretch::new(setup.mtu.saturating_sub(HEADERS)),
            holes: Holes::new(setup.mtu.saturating_sub(HEADERS)),
            first_edge: None,
            fault: Fault::None,
        })
    }

    /// smoltcp takes the window of our SYN-ACK for a scaled one, up to 128 times too large, and would let data in that
    /// its buffer has no place for.
    fn exceeds_first_window(&self, segment: &Segment) -> bool {
        let payload = u32::try_from(segment.payload_len).unwrap_or(u32::MAX);
        let end = segment.sequence.wrapping_add(payload);
        self.first_edge
            .is_some_and(|edge| payload > 0 && end.wrapping_sub(edge).cast_signed() > 0)
    }

    /// Whether a segment brings data behind the FIN, which smoltcp would hand out like any other.
    fn comes_behind_end(&self, segment: &Segment) -> bool {
        use tcp::State::{CloseWait, Closing, LastAck, TimeWait};
        let state = self.sockets.get::<tcp::Socket<'_>>(self.handle).state();
        if segment.payload_len == 0 || !matches!(state, CloseWait | Closing | LastAck | TimeWait) {
            return false;
        }
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let end = segment.sequence.wrapping_add(length(segment.payload_len));
        self.arrivals
            .read
            .is_some_and(|read| is_before(read.wrapping_add(length(self.unread())), end))
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

impl Arrivals {
    fn note(&mut self, segment: &Segment) {
        let start = segment.sequence.wrapping_add(u32::from(segment.flags.syn()));
        if segment.flags.syn() && self.read.is_none() {
            (self.read, self.furthest) = (Some(start), start);
        }
        if segment.payload_len > 0 {
            self.extend(start, segment.payload_len);
        }
    }

    fn extend(&mut self, start: u32, len: usize) {
        let end = start.wrapping_add(u32::try_from(len).unwrap_or(u32::MAX));
        if is_before(self.furthest, end) {
            self.furthest = end;
        }
    }

    fn take(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.read = self.read.map(|read| read.wrapping_add(len));
    }

    /// With nothing left to read: whether something came behind bytes that did not.
    fn has_gap(self) -> bool {
        self.read.is_none_or(|read| is_before(read, self.furthest))
    }
}

/// The order of sequence numbers.
fn is_before(left: u32, right: u32) -> bool {
    right.wrapping_sub(left).cast_signed() > 0
}

#[expect(unsafe_code, reason = "the rings say what they ask for")]
fn lend(rings: &mut Rings) -> [tcp::SocketBuffer<'static>; 2] {
    // SAFETY: called once for each connection, which owns rings and socket, hands neither out and drops them together.
    unsafe { rings.lend() }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers wrap within the first bytes.
    const FIRST: u32 = u32::MAX - 2;

    fn arrivals(pieces: &[(u32, usize)]) -> Arrivals {
        let mut arrivals = Arrivals {
            read: Some(FIRST),
            furthest: FIRST,
        };
        for (offset, len) in pieces {
            arrivals.extend(FIRST.wrapping_add(*offset), *len);
        }
        arrivals
    }

    #[test]
    fn bytes_behind_a_gap_count_until_they_are_read() {
        let mut arrivals = arrivals(&[(0, 10), (20, 5)]);
        arrivals.take(10);
        assert!(arrivals.has_gap());

        arrivals.extend(FIRST.wrapping_add(10), 10);
        arrivals.take(15);

        assert!(!arrivals.has_gap());
    }

    #[test]
    fn repeated_bytes_leave_no_gap() {
        let mut arrivals = arrivals(&[(0, 10), (0, 10), (9, 1)]);
        arrivals.take(10);

        assert!(!arrivals.has_gap());
        assert!(Arrivals::default().has_gap(), "nothing is known before the SYN");
    }
}
