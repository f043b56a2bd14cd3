//! Two applications that talk over one connection, and check every byte.
//!
//! They act when they were woken, or when a pause of theirs is over, and never else: a wake-up that is missing leaves
//! a conversation stuck.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use meshgate_netstack_core::Stream;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::streams::SECONDS;
use crate::world::*;

/// Bytes that a side says at most.
const LONGEST: usize = 120_000;
/// Sides of all conversations of a case, at most.
const SIDES: usize = 12;
/// How far apart what they say begins in the same noise.
const STRIDE: usize = 1009;
/// Chunks moved in one go, so that sides take turns.
const BUDGET: usize = 8;

/// A connection and what both sides do with it.
#[derive(Debug)]
pub(super) struct Conversation {
    number: usize,
    from: usize,
    starts: Instant,
    /// Where the dialer's side of it is.
    address: Option<SocketAddr>,
    sides: [Side; 2],
}

/// One side; the dialer is the first.
#[derive(Debug)]
struct Side {
    plan: Plan,
    stream: Option<Stream>,
    connected: bool,
    written: usize,
    finished: bool,
    received: usize,
    read_end: bool,
    end: Option<End>,
    woken: Arc<Woken>,
    rests_until: Option<Instant>,
}

/// What a side wants.
#[derive(Debug)]
struct Plan {
    send: usize,
    chunk: usize,
    pause: Duration,
    /// Leaves when it has sent so much, whatever is under way.
    leaves: Option<Leave>,
}

#[derive(Debug, Clone, Copy)]
enum Leave {
    Abort,
    Drop,
}

/// How a side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It sent everything and read everything up to the end.
    Whole,
    /// It was told of a failure.
    Failed(io::ErrorKind),
    /// It left by itself.
    Left,
    /// Its node restarted, or it never had a connection.
    Gone,
}

#[derive(Debug)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Conversation {
    pub(super) fn new(number: usize, rng: &mut StdRng, start: Instant, until: Instant) -> Self {
        Self {
            number,
            from: rng.random_range(0..2),
            starts: start + (until - start).mul_f64(rng.random::<f64>() * 0.8),
            address: None,
            sides: [Side::new(rng), Side::new(rng)],
        }
    }

    /// When it wants to act without being woken.
    pub(super) fn next_action(&self) -> Option<Instant> {
        let begins = (!self.has_begun()).then_some(self.starts);
        let rests = self
            .sides
            .iter()
            .filter(|side| side.end.is_none() && side.stream.is_some());
        let woken = |side: &Side| side.woken.0.load(Ordering::Relaxed).then_some(self.starts);
        let rests = rests.filter_map(|side| woken(side).or(side.rests_until));
        rests.chain(begins).min()
    }

    pub(super) fn has_ended(&self) -> bool {
        let [dialer, acceptor] = &self.sides;
        match dialer.end {
            None => false,
            // What it left may have reached nobody.
            Some(End::Failed(_) | End::Left | End::Gone) if acceptor.stream.is_none() => true,
            Some(_) => acceptor.end.is_some(),
        }
    }

    pub(super) fn ends(&self) -> [End; 2] {
        self.sides.each_ref().map(|side| side.end.unwrap_or(End::Gone))
    }

    /// One side may leave early, or the connection was never made.
    pub(super) fn may_fail(&self) -> bool {
        let leaves = self.sides.iter().any(|side| side.plan.leaves.is_some());
        leaves || !self.sides[0].connected
    }

    pub(super) fn dialed_from(&self, node: usize, address: SocketAddr) -> bool {
        let waits = self.sides[1].end.is_none() && self.sides[1].stream.is_none();
        waits && self.from == node && self.address == Some(address)
    }

    pub(super) fn accept(&mut self, stream: Stream) {
        self.sides[1].stream = Some(stream);
        self.sides[1].connected = true;
    }

    /// The node restarted, and its applications with it.
    pub(super) fn forget(&mut self, node: usize) {
        if !self.has_begun() {
            return;
        }
        let side = &mut self.sides[usize::from(node != self.from)];
        if side.stream.take().is_some() {
            side.end = Some(End::Gone);
        }
    }

    /// Does what can be done now.
    pub(super) fn act(&mut self, world: &mut World) {
        if !self.has_begun() {
            if self.starts <= world.now {
                self.begin(world);
            }
            return;
        }
        let [dialer, acceptor] = &mut self.sides;
        dialer.act(world.now, self.number * 2, acceptor, self.number * 2 + 1);
        acceptor.act(world.now, self.number * 2 + 1, dialer, self.number * 2);
    }

    fn begin(&mut self, world: &mut World) {
        let to = SocketAddr::new(inner(1 - self.from), super::PORT);
        match world.nodes[self.from].connect(world.now, to, SECONDS * 30) {
            Ok(stream) => {
                self.address = Some(stream.local_addr());
                self.sides[0].stream = Some(stream);
            }
            Err(_) => self.sides.iter_mut().for_each(|side| side.end = Some(End::Gone)),
        }
    }

    fn has_begun(&self) -> bool {
        self.sides[0].stream.is_some() || self.sides[0].end.is_some()
    }
}

impl Side {
    fn new(rng: &mut StdRng) -> Self {
        let send = match rng.random_range(0..4) {
            0 => rng.random_range(0..10),
            1 | 2 => rng.random_range(0..20_000),
            _ => rng.random_range(0..LONGEST),
        };
        let leaves = match rng.random_range(0..10) {
            0 => Some(Leave::Abort),
            1 => Some(Leave::Drop),
            _ => None,
        };
        // Whoever rests takes more at a time, so that nobody is slower than the patience of the test.
        let (pause, least) = if rng.random_bool(0.3) {
            (rng.random_range(0..1000), 4096)
        } else {
            (0, 64)
        };
        Self {
            plan: Plan {
                send,
                chunk: rng.random_range(least..20_000),
                pause: Duration::from_millis(pause),
                leaves,
            },
            stream: None,
            connected: false,
            written: 0,
            finished: false,
            received: 0,
            read_end: false,
            end: None,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            rests_until: None,
        }
    }

    fn act(&mut self, now: Instant, number: usize, other: &Self, other_number: usize) {
        let rested = self.rests_until.is_some_and(|until| until <= now);
        if self.end.is_some() || self.stream.is_none() || !(rested || self.woken.0.load(Ordering::Relaxed)) {
            return;
        }
        if self.rests_until.is_some_and(|until| until > now) {
            return;
        }
        self.woken.0.store(false, Ordering::Relaxed);
        self.rests_until = None;
        match self.talk(number, other, other_number) {
            Ok(true) => self.rests_until = Some(now + self.plan.pause.max(Duration::from_millis(1))),
            Ok(false) => {}
            Err(error) => self.finish(End::Failed(error.kind())),
        }
        if self.end.is_none() && self.finished && self.read_end {
            self.finish(End::Whole);
        }
    }

    /// Reads and writes a little; says whether there is more to do without being woken.
    fn talk(&mut self, number: usize, other: &Self, other_number: usize) -> io::Result<bool> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        if !self.connected {
            match stream.poll_connected(&mut cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(result) => result.map_err(io::Error::from)?,
            }
            self.connected = true;
        }
        let mut reads = !self.read_end;
        let mut writes = !self.finished;
        let mut buffer = vec![0; self.plan.chunk];
        for _ in 0..BUDGET {
            if reads {
                match stream.poll_read(&mut cx, &mut buffer) {
                    Poll::Pending => reads = false,
                    Poll::Ready(Ok(0)) => {
                        assert!(other.is_complete(), "an end that nobody sent: {other:?}");
                        assert_eq!(self.received, other.written, "the end came before the last byte");
                        self.read_end = true;
                        reads = false;
                    }
                    Poll::Ready(Ok(len)) => {
                        let expected = pattern(other_number, self.received, len);
                        assert!(&buffer[..len] == expected, "other bytes than were sent");
                        self.received += len;
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                }
            }
            if writes {
                let len = (self.plan.send - self.written).min(self.plan.chunk);
                if len == 0 {
                    writes = false;
                    self.finished = true;
                    if let Some(leave) = self.plan.leaves {
                        if matches!(leave, Leave::Abort) {
                            stream.abort();
                        }
                        self.finish(End::Left);
                        return Ok(false);
                    }
                    stream.shutdown();
                    continue;
                }
                let bytes = pattern(number, self.written, len);
                match stream.poll_write(&mut cx, &[IoSlice::new(bytes)]) {
                    Poll::Pending => writes = false,
                    Poll::Ready(written) => self.written += written?,
                }
            }
        }
        Ok(reads || writes)
    }

    /// Everything was written, and the end of it too.
    fn is_complete(&self) -> bool {
        self.finished
    }

    fn finish(&mut self, end: End) {
        self.stream = None;
        self.end = Some(end);
    }
}

/// What this side says from this byte on.
fn pattern(number: usize, from: usize, len: usize) -> &'static [u8] {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = vec![0; LONGEST + SIDES * STRIDE];
        StdRng::seed_from_u64(0).fill(&mut bytes[..]);
        bytes
    });
    &NOISE[number * STRIDE + from..][..len]
}
