//! TCP: one connection as a pure machine. Segments and time go in, segments and a time to look again come out.
//!
//! The two directions know nothing of each other: [`send`] and [`receive`] hold one ring each, count bytes from 0 and
//! put sequence numbers on only at the wire. Nothing is sent while a segment is taken in; [`Tcp::transmit`] sends
//! everything at once, so that a batch of received segments costs one acknowledgement, and one of sent segments one
//! system call.
//!
//! Timestamps are left out: round trips are taken from what left once, old segments cannot come back through the
//! tunnel, and twelve bytes of each packet go to data instead.

mod congestion;
pub(crate) mod header;
mod opening;
mod pacer;
mod rack;
mod ranges;
mod receive;
mod ring;
mod rtt;
mod scoreboard;
mod segment;
mod send;
pub(crate) mod seq;
#[cfg(test)]
mod tests;
mod time;
mod transmit;

use std::net::SocketAddr;
use std::task::Waker;
use std::time::Instant;

use self::header::Ends;
use self::opening::Opening;
use self::receive::Receiver;
use self::ring::Rings;
use self::send::Sender;
use self::seq::SeqNr;
use self::time::Time;
pub(crate) use self::transmit::Exit;
use crate::Buffers;

#[derive(Debug)]
pub(crate) struct Tcp {
    ends: Ends,
    /// Payload that fits the path.
    segment: u16,
    stage: Stage,
    sender: Sender,
    receiver: Receiver,
    rings: Rings,
    /// Something was put into the rings since their memory was given back.
    warm: bool,
    /// Both sides tell what arrived behind gaps.
    selective: bool,
    /// The other side finished before we did, so that it has the last word.
    answers_end: bool,
    /// A sign of life is asked for.
    probes: bool,
    /// Since when nothing could be sent.
    held: Option<Time>,
    /// When something out of place was last answered.
    challenged: Option<Time>,
    reset: Option<Reset>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How far a connection is, in detail.
#[derive(Debug)]
enum Stage {
    Opening(Opening),
    Open,
    TimeWait,
    Closed,
}

/// A reset that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// The connection is over.
    Ours,
    /// An acknowledgement of this number is none of ours.
    Answer(SeqNr),
}

/// What a connection is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) mtu: u16,
    pub(crate) buffers: Buffers,
    /// The initial sequence number.
    pub(crate) sequence: u32,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
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
    pub(crate) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Opening(_) => Phase::Opening,
            Stage::Open => Phase::Open,
            Stage::TimeWait => Phase::TimeWait,
            Stage::Closed => Phase::Closed,
        }
    }

    /// Whether the other side has sent its FIN and everything before it came.
    pub(crate) fn remote_finished(&self) -> bool {
        self.receiver.is_finished()
    }

    /// The sequence number of the other side's SYN, once it came.
    pub(crate) fn remote_syn(&self) -> Option<SeqNr> {
        match &self.stage {
            Stage::Opening(opening) if !opening.is_answer() => None,
            Stage::Opening(_) | Stage::Open | Stage::TimeWait | Stage::Closed => Some(self.receiver.syn()),
        }
    }

    /// Bytes received and not yet read.
    pub(crate) fn unread(&self) -> usize {
        self.receiver.unread()
    }

    /// Hands at most `room` received bytes to `take`, in one or two pieces.
    pub(crate) fn read(&mut self, room: usize, waker: &Waker, take: impl FnMut(&[u8])) -> Read {
        if self.receiver.unread() > 0 {
            return Read::Data(self.receiver.read(self.rings.receive(), room, take));
        }
        if self.receiver.is_finished() {
            return Read::Finished;
        }
        if matches!(self.stage, Stage::Closed) {
            return Read::Broken;
        }
        remember(&mut self.reader, waker);
        Read::Pending
    }

    /// Whether the other side should hear of the room that reading made.
    pub(crate) fn has_window_news(&self) -> bool {
        matches!(self.stage, Stage::Open) && self.receiver.is_window_news()
    }

    pub(crate) fn write(&mut self, bytes: &[u8], waker: &Waker) -> Written {
        match self.stage {
            Stage::Opening(_) => {
                remember(&mut self.writer, waker);
                return Written::Pending;
            }
            Stage::Open if !self.sender.is_closed() => {}
            Stage::Open | Stage::TimeWait | Stage::Closed => return Written::Broken,
        }
        match self.sender.write(self.rings.transmit(), bytes) {
            0 if !bytes.is_empty() => {
                remember(&mut self.writer, waker);
                Written::Pending
            }
            len => {
                self.warm = true;
                Written::Bytes(len)
            }
        }
    }

    /// Whether its buffers hold memory.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm
    }

    /// Gives the memory of its buffers back, if nothing is in them; says whether it did.
    pub(crate) fn cool(&mut self) -> bool {
        if !self.receiver.is_empty() || !self.sender.is_empty() {
            return false;
        }
        self.sender.shrink();
        self.rings.release();
        self.warm = false;
        true
    }

    /// Wakes `waker` when the phase changes.
    pub(crate) fn register(&mut self, waker: &Waker) {
        remember(&mut self.reader, waker);
    }

    /// As [`Tcp::left`]; `waker` is woken when nothing is.
    pub(crate) fn unacknowledged(&mut self, waker: &Waker) -> usize {
        remember(&mut self.writer, waker);
        self.left()
    }

    /// Bytes written, and the end of them, that are not yet acknowledged.
    pub(crate) fn left(&self) -> usize {
        self.sender.unacknowledged()
    }

    /// Sends FIN after everything written.
    pub(crate) fn close(&mut self) {
        match &self.stage {
            Stage::Opening(opening) if !opening.is_answer() => self.abort(),
            Stage::Opening(_) | Stage::Open => self.sender.close(),
            Stage::TimeWait | Stage::Closed => {}
        }
    }

    /// Ends at once; the next [`Tcp::transmit`] sends RST.
    pub(crate) fn abort(&mut self) {
        let is_known = match &self.stage {
            Stage::Opening(opening) => opening.has_left(),
            Stage::Open | Stage::TimeWait => true,
            Stage::Closed => return,
        };
        self.reset = is_known.then_some(Reset::Ours);
        self.end();
    }

    /// Asks the other side for a sign of life, which it gives whatever its application does.
    pub(crate) fn probe(&mut self) {
        self.probes = matches!(self.stage, Stage::Open);
    }

    /// Nothing can be sent to the peer now, which says nothing about what is under way.
    pub(crate) fn hold(&mut self, epoch: Instant, now: Instant) {
        self.held.get_or_insert(Time::new(epoch, now));
    }

    /// When [`Tcp::transmit`] wants to run next.
    pub(crate) fn poll_at(&self, epoch: Instant) -> Option<Instant> {
        let at = match &self.stage {
            Stage::Opening(opening) => opening.poll_at(),
            Stage::Open => [self.sender.poll_at(), self.receiver.due_at()]
                .into_iter()
                .flatten()
                .min(),
            Stage::TimeWait | Stage::Closed => None,
        };
        at.map(|at| at.instant(epoch))
    }

    /// It is over, whoever ended it.
    fn end(&mut self) {
        self.stage = Stage::Closed;
        self.wake_all();
    }

    fn wake_all(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn remember(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|other| other.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
