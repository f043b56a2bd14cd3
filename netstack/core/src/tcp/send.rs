//! What goes out: the bytes that wait, the windows they must fit, and which of them leave next.

mod acknowledge;
mod repair;
#[cfg(test)]
mod tests;
mod timers;

pub(super) use self::acknowledge::Acknowledgement;
use self::acknowledge::TailProbe;
use self::repair::Repair;
pub(super) use self::timers::Due;
use self::timers::Timers;
use super::congestion::{Congestion, Cubic};
use super::pacer::Pacer;
use super::rack::Rack;
use super::ring::{Ring, size};
use super::rtt::RoundTrip;
use super::scoreboard::Scoreboard;
use super::seq::{Numbering, SeqNr};
use super::time::Time;

/// Span of a ring at first; most connections never need more.
const FIRST_SPAN: usize = 1 << 20;

/// Everything about the bytes that we send. Offsets count the end of the stream as one byte behind the last.
#[derive(Debug)]
pub(super) struct Sender {
    numbering: Numbering,
    ring: Ring,
    /// Largest span of the ring.
    most: usize,
    /// The end of what was written.
    written: u64,
    /// Nothing more will be written.
    closed: bool,
    acknowledged: u64,
    /// The end of what was sent.
    sent: u64,
    peer: PeerWindow,
    /// Payload of a full segment.
    segment: u64,
    /// The other side tells what arrived behind gaps.
    selective: bool,
    board: Scoreboard,
    rack: Rack,
    round_trip: RoundTrip,
    control: Box<dyn Congestion>,
    pacer: Pacer,
    repair: Repair,
    round: Round,
    timers: Timers,
    tail_probe: Option<TailProbe>,
    /// Acknowledgements in a row that said the same, from a side that tells no more.
    repeated: u32,
    /// Bytes sent again that the other side did not report as received twice.
    unexplained: u64,
    /// If all of them are, the last loss was none.
    undoable: bool,
    /// Something leaves as soon as the pace permits.
    waits_for_pace: bool,
}

/// The window that the other side offers.
#[derive(Debug, Clone, Copy, Default)]
struct PeerWindow {
    /// Where it ends.
    edge: u64,
    /// The largest one so far.
    largest: u64,
    /// Where the segment that told it stands in the other direction.
    told_at: i64,
    scale: u8,
}

/// A round trip: it ends when what was sent at its begin arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    ends_at: u64,
    /// Most bytes under way in this one, and the one before.
    most: [u64; 2],
    /// Whether the window was full in this one, and the one before.
    limited: [bool; 2],
}

/// Bytes that leave in one segment; the end of the stream may be the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) end: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    New,
    Again,
}

/// What the other side said in its SYN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Payload of a full segment.
    pub(super) segment: u16,
    pub(super) window: u16,
    /// Shift of the windows that follow.
    pub(super) scale: u8,
    pub(super) selective: bool,
}

impl Sender {
    /// `most` is the room of its ring.
    pub(super) fn new(syn: SeqNr, most: usize) -> Self {
        Self {
            numbering: Numbering::behind_syn(syn),
            ring: Ring::new(most.min(FIRST_SPAN)),
            most,
            written: 0,
            closed: false,
            acknowledged: 0,
            sent: 0,
            peer: PeerWindow::default(),
            segment: 1,
            selective: false,
            board: Scoreboard::default(),
            rack: Rack::default(),
            round_trip: RoundTrip::default(),
            control: Box::new(Cubic::new(1)),
            pacer: Pacer::new(1),
            repair: Repair::default(),
            round: Round::default(),
            timers: Timers::default(),
            tail_probe: None,
            repeated: 0,
            unexplained: 0,
            undoable: false,
            waits_for_pace: false,
        }
    }

    /// The handshake is over; it took so long if its SYN was sent once.
    pub(super) fn open(&mut self, now: Time, terms: Terms, took: Option<u64>) {
        self.segment = u64::from(terms.segment.max(1));
        self.selective = terms.selective;
        self.control = Box::new(Cubic::new(self.segment));
        self.pacer = Pacer::new(self.segment);
        self.peer = PeerWindow {
            edge: u64::from(terms.window),
            largest: u64::from(terms.window),
            told_at: -1,
            scale: terms.scale,
        };
        if let Some(took) = took {
            self.round_trip.sample(now, took);
        }
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn write(&mut self, memory: &mut [u8], bytes: &[u8]) -> usize {
        let room = size(self.ring.end() - self.written);
        let len = bytes.len().min(room);
        self.ring.put(memory, self.written, &bytes[..len]);
        self.written += len as u64;
        len
    }

    /// The end of the stream follows what was written.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Everything written, and the end if there is one, was acknowledged.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged == self.end()
    }

    /// The end of the stream left at least once.
    pub(super) fn has_sent_end(&self) -> bool {
        self.sent > self.written
    }

    /// Nothing is in the ring or under way.
    pub(super) fn is_empty(&self) -> bool {
        self.ring.begin() == self.written && self.board.is_empty()
    }

    /// Bytes, and the end of the stream, that were not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        size(self.end() - self.acknowledged)
    }

    /// Whether enough room came free that writing is worth a wake-up.
    pub(super) fn is_roomy(&self) -> bool {
        let used = size(self.written - self.ring.begin());
        used == 0 || self.ring.span() - used >= self.ring.span() / 4
    }

    /// The number of the next new byte.
    pub(super) fn next_number(&self) -> SeqNr {
        self.numbering.number(self.sent)
    }

    pub(super) fn number(&self, offset: u64) -> SeqNr {
        self.numbering.number(offset)
    }

    /// The number before everything that was not acknowledged; what bears it is answered and else ignored.
    pub(super) fn number_behind(&self) -> SeqNr {
        SeqNr(self.numbering.number(self.acknowledged).0.wrapping_sub(1))
    }

    pub(super) fn syn(&self) -> SeqNr {
        self.numbering.syn()
    }

    /// The offset that an acknowledgement means; negative before the first byte.
    pub(super) fn offset(&self, number: SeqNr) -> i64 {
        self.numbering.offset(number, self.acknowledged)
    }

    /// Whether an acknowledgement may be one of ours (RFC 5961, 5).
    pub(super) fn judge(&self, offset: i64) -> Judgement {
        if offset > self.sent.cast_signed() {
            Judgement::Unsent
        } else if offset < (self.acknowledged - self.peer.largest.min(self.acknowledged)).cast_signed() {
            Judgement::Ancient
        } else {
            Judgement::Good
        }
    }

    /// The bytes of a piece, and whether the end of the stream is in it.
    pub(super) fn payload<'a>(&self, memory: &'a [u8], piece: Piece) -> ([&'a [u8]; 2], bool) {
        let end = piece.end.min(self.written);
        let bytes = self
            .ring
            .get(memory, piece.start, size(end.saturating_sub(piece.start)));
        (bytes, piece.end > self.written)
    }

    /// Smoothed round trip.
    pub(super) fn round_trip(&self) -> &RoundTrip {
        &self.round_trip
    }

    /// What may leave now. [`Sender::handle_sent`] has to be told that it did.
    pub(super) fn poll(&mut self, now: Time) -> Option<Piece> {
        self.waits_for_pace = false;
        if self.timers.take_probe() {
            return self.probe();
        }
        let piece = self.next_lost().or_else(|| self.next_new())?;
        let flying = self.board.flying();
        // What timed out leaves whatever else is under way, or nothing would go on before the next timeout.
        let is_due = matches!(self.repair, Repair::Timeout(_)) && piece.start == self.acknowledged;
        if flying > 0 && !is_due && flying + (piece.end - piece.start) > self.window() {
            self.round.limited[0] = true;
            return None;
        }
        if !self.pacer.permits(now) {
            self.waits_for_pace = true;
            return None;
        }
        Some(piece)
    }

    pub(super) fn handle_sent(&mut self, now: Time, piece: Piece) {
        let len = piece.end - piece.start;
        match piece.kind {
            Kind::New => {
                if self.board.is_empty() {
                    self.timers.begin(now);
                    self.control.handle_restart(now);
                }
                self.board.sent(piece.start, piece.end, now);
                self.sent = piece.end;
            }
            Kind::Again => {
                self.board.resent(piece.start, piece.end, now);
                self.unexplained += len;
                if piece.start == self.acknowledged {
                    self.timers.restart(now);
                }
            }
        }
        self.timers.touch();
        self.pacer.spend(len);
        self.repair.handle_sent(len);
        let [most, _] = &mut self.round.most;
        *most = (*most).max(self.board.flying());
    }

    /// Makes the ring larger if the path carries more than fits it. Where round trips are twice as long as they could
    /// be, more would only wait in a queue. Memory is that of its ring.
    pub(super) fn tune(&mut self, memory: &mut [u8]) {
        let span = self.ring.span();
        let used = size(self.written - self.ring.begin());
        let wanted = size(self.control.window()).saturating_mul(2);
        let trip = &self.round_trip;
        let is_queued = trip.smoothed().zip(trip.minimum());
        let is_queued = is_queued.is_none_or(|(smoothed, least)| smoothed > 2 * least);
        if span < self.most && wanted > span && used > span / 2 && !is_queued {
            let span = span.saturating_mul(2).min(self.most);
            self.ring.grow(memory, span, used);
        }
    }

    /// Gives memory back, if nothing waits.
    pub(super) fn shrink(&mut self) {
        self.board.shrink();
    }

    /// Bytes that may be under way.
    fn window(&self) -> u64 {
        self.repair.window().unwrap_or_else(|| self.control.window())
    }

    /// The end of everything there is to send.
    fn end(&self) -> u64 {
        self.written + u64::from(self.closed)
    }

    fn next_lost(&self) -> Option<Piece> {
        let lost = self.board.first_lost()?;
        Some(Piece {
            start: lost.start,
            end: self.cut(lost.start, lost.end),
            kind: Kind::Again,
        })
    }

    fn next_new(&self) -> Option<Piece> {
        let start = self.sent;
        let end = self.cut(start, self.end().min(self.peer.edge));
        if end <= start {
            return None;
        }
        // Small pieces of a small window are not worth a segment while others are under way.
        let is_cut = end < self.written && end - start < self.segment;
        let is_silly = is_cut && !self.board.is_empty() && end - start < self.peer.largest / 2;
        (!is_silly).then_some(Piece {
            start,
            end,
            kind: Kind::New,
        })
    }

    /// As much as fits one segment; the end of the stream always does.
    fn cut(&self, start: u64, end: u64) -> u64 {
        let bytes = end.min(self.written).min(start + self.segment);
        if bytes == self.written && end > self.written {
            end
        } else {
            bytes
        }
    }

    /// Something that makes the other side tell whether the last bytes arrived.
    fn probe(&mut self) -> Option<Piece> {
        let piece = self.next_new().or_else(|| {
            let last = self.board.last()?;
            let start = last.start.max(last.end.saturating_sub(self.segment));
            Some(Piece {
                start,
                end: last.end,
                kind: Kind::Again,
            })
        })?;
        self.tail_probe = Some(TailProbe {
            end: piece.end.max(self.sent),
            again: piece.kind == Kind::Again,
        });
        Some(piece)
    }
}

/// What an acknowledgement is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Good,
    /// Of something that was not sent.
    Unsent,
    /// Older than any window.
    Ancient,
}
