//! What comes in: bytes put in order, the window offered for them, and when to acknowledge.

mod acknowledging;

use std::ops::Range;

use self::acknowledging::Acknowledging;
pub(super) use self::acknowledging::Urgency;
use super::header::{Block, OptionList};
use super::ranges::{Inserted, Ranges};
use super::ring::{Ring, size};
use super::seq::{Numbering, SeqNr};
use super::time::{MILLISECOND, Time};

/// Span of a ring at first, which is the largest window until the path needs more. A larger one leaves the
/// processor's cache when many connections receive at once.
const FIRST_SPAN: usize = 512 << 10;
/// A window is announced anew by steps of this size, or of a part of a small ring.
const WINDOW_STEP: u64 = 32 << 10;
/// Round trips are not taken for shorter than this, which a busy machine needs to look.
const MIN_ROUND_TRIP: u64 = MILLISECOND;

/// Everything about the bytes that we receive. The end of the stream is one byte behind the last.
#[derive(Debug)]
pub(super) struct Receiver {
    numbering: Numbering,
    /// Begins at what was not read.
    ring: Ring,
    most: usize,
    /// The end of what arrived without a gap.
    next: u64,
    /// The end of the window that was announced.
    edge: u64,
    /// What arrived behind a gap.
    ranges: Ranges,
    /// Where the stream ends, once known.
    end: Option<u64>,
    /// Windows are told in units of so many bits.
    scale: u8,
    /// The largest payload so far.
    segment: u64,
    /// Bytes that arrived a second time.
    twice: Option<Range<u64>>,
    acknowledging: Acknowledging,
    reading: Reading,
}

/// How fast the owner reads.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    since: Time,
    from: u64,
}

/// A segment's place among what we receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: i64,
    /// Sequence space it takes.
    pub(super) len: u64,
}

impl Receiver {
    /// `most` is the room of its ring, `scale` what our SYN says.
    pub(super) fn new(most: usize, scale: u8) -> Self {
        Self {
            numbering: Numbering::behind_syn(SeqNr(0)),
            ring: Ring::new(most.min(FIRST_SPAN)),
            most,
            next: 0,
            edge: 0,
            ranges: Ranges::default(),
            end: None,
            scale,
            segment: 1,
            twice: None,
            acknowledging: Acknowledging::default(),
            reading: Reading::default(),
        }
    }

    /// The shift that lets the window grow to the whole of a ring.
    pub(super) fn scale_for(most: usize) -> u8 {
        (0..14)
            .find(|scale| u16::try_from(most >> scale).is_ok())
            .unwrap_or(14)
    }

    /// The other side's first byte follows its SYN.
    pub(super) fn start(&mut self, syn: SeqNr) {
        self.numbering = Numbering::behind_syn(syn);
    }

    /// The other side does not scale windows.
    pub(super) fn forgo_scale(&mut self) {
        self.scale = 0;
    }

    /// The window that a SYN announces, which is never scaled.
    pub(super) fn first_window(&mut self) -> u16 {
        let window = u16::try_from(self.ring.span()).unwrap_or(u16::MAX);
        self.edge = self.edge.max(u64::from(window));
        window
    }

    /// The number of the other side's SYN.
    pub(super) fn syn(&self) -> SeqNr {
        self.numbering.syn()
    }

    pub(super) fn scale(&self) -> u8 {
        self.scale
    }

    /// Where the announced window ends.
    pub(super) fn reach(&self) -> i64 {
        self.edge.cast_signed()
    }

    pub(super) fn unread(&self) -> usize {
        size(self.next - self.ring.begin())
    }

    /// Nothing is in the ring.
    pub(super) fn is_empty(&self) -> bool {
        self.unread() == 0 && self.ranges.is_empty()
    }

    /// The stream's end and everything before it arrived.
    pub(super) fn is_finished(&self) -> bool {
        self.end == Some(self.next)
    }

    /// The number that is waited for.
    pub(super) fn acknowledgement(&self) -> SeqNr {
        self.numbering.number(self.received())
    }

    pub(super) fn place(&self, number: SeqNr, len: u64) -> Place {
        let start = self.numbering.offset(number, self.next);
        Place { start, len }
    }

    /// Whether a segment is exactly the one that is waited for.
    pub(super) fn is_next(&self, place: Place) -> bool {
        place.start == self.received().cast_signed()
    }

    /// Whether a segment lies in the window or touches it (RFC 9293, 3.10.7.4).
    pub(super) fn is_acceptable(&self, place: Place) -> bool {
        let end = place.start.saturating_add_unsigned(place.len);
        let (next, edge) = (self.received().cast_signed(), self.edge.cast_signed());
        if place.len == 0 {
            (next..=edge.max(next)).contains(&place.start)
        } else {
            place.start < edge.max(next + 1) && end > next
        }
    }

    /// Puts payload in order; says whether there is news for the owner. Memory is that of its ring.
    pub(super) fn take(
        &mut self,
        now: Time,
        place: Place,
        payload: &[u8],
        ends: bool,
        memory: &mut [u8],
    ) -> bool {
        let Some((start, bytes)) = self.cut(place, payload) else {
            self.acknowledging.want(Urgency::Now, now);
            return false;
        };
        let before = self.received();
        self.segment = self.segment.max(payload.len() as u64);
        let whole = place.start.saturating_add_unsigned(payload.len() as u64);
        if ends {
            self.note_end(whole);
        }
        let end = start + bytes.len() as u64;
        if start > self.next {
            self.keep_behind_gap(start, bytes, memory);
            self.acknowledging.want(Urgency::Now, now);
        } else {
            let had_gap = !self.ranges.is_empty();
            self.ring.put(memory, start, bytes);
            self.next = end;
            if had_gap {
                self.next = self.ranges.join(end);
            }
            let urgency = if had_gap || self.is_finished() {
                Urgency::Now
            } else {
                Urgency::Later
            };
            self.acknowledging.count(self.next - start, 2 * self.segment);
            self.acknowledging.want(urgency, now);
        }
        self.received() > before
    }

    /// Hands at most `room` bytes that arrived in order to `take`.
    pub(super) fn read(&mut self, memory: &[u8], room: usize, mut take: impl FnMut(&[u8])) -> usize {
        let len = room.min(self.unread());
        let begin = self.ring.begin();
        for piece in self.ring.get(memory, begin, len) {
            if !piece.is_empty() {
                take(piece);
            }
        }
        self.ring.advance(begin + len as u64);
        if self.is_empty() {
            self.ring.rewind();
        }
        len
    }

    /// Makes the ring larger if the owner reads as fast as the path carries. Memory is that of its ring.
    pub(super) fn tune(&mut self, now: Time, round_trip: Option<u64>, memory: &mut [u8]) {
        let Some(round_trip) = round_trip.filter(|_| self.ring.span() < self.most) else {
            return;
        };
        let passed = now.since(self.reading.since);
        let round_trip = round_trip.max(MIN_ROUND_TRIP);
        if passed < round_trip {
            return;
        }
        let read = self.ring.begin() - self.reading.from;
        self.reading = Reading {
            since: now,
            from: self.ring.begin(),
        };
        let in_round_trip = read.saturating_mul(round_trip) / passed;
        let span = self.ring.span();
        if size(in_round_trip.saturating_mul(2)) > span {
            let used = size(self.ranges.furthest().unwrap_or(self.next) - self.ring.begin());
            self.ring
                .grow(memory, span.saturating_mul(2).min(self.most), used);
        }
    }

    /// A segment brought nothing that is waited for.
    pub(super) fn refuse(&mut self, now: Time, place: Place, payload: usize) {
        let end = place.start.saturating_add_unsigned(payload as u64);
        if payload > 0 && end <= self.next.cast_signed() {
            self.note_twice(place.start, end);
        }
        self.acknowledging.want(Urgency::Now, now);
    }

    /// Something has to be answered.
    pub(super) fn want(&mut self, urgency: Urgency, now: Time) {
        self.acknowledging.want(urgency, now);
    }

    /// Whether an acknowledgement is to leave now.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.acknowledging.is_due(now) || self.is_window_news()
    }

    /// Whether more arrived behind gaps than one acknowledgement told.
    pub(super) fn has_untold(&self) -> bool {
        self.ranges.has_news()
    }

    /// Whether it has to say more than any segment does.
    pub(super) fn has_more_to_say(&self) -> bool {
        self.twice.is_some() || !self.ranges.is_empty()
    }

    /// When an acknowledgement is to leave.
    pub(super) fn due_at(&self) -> Option<Time> {
        self.acknowledging.due_at()
    }

    /// The window as a header tells it. It left with an acknowledgement, or is about to.
    pub(super) fn announce(&mut self) -> u16 {
        self.acknowledging.handle_sent();
        let received = self.received();
        let unit = 1_u64 << self.scale;
        let wanted = self.wanted_edge().max(self.edge);
        let window = wanted.saturating_sub(received);
        // An edge that was told does not move back for the units' sake, unless there is no memory for the difference.
        let whole = window.div_ceil(unit);
        let units = if wanted == self.edge && received + whole * unit <= self.ring.end() {
            whole
        } else {
            window / unit
        };
        let units = u16::try_from(units).unwrap_or(u16::MAX);
        self.edge = self.edge.max(received + u64::from(units) * unit);
        units
    }

    /// What arrived behind gaps, most recent first; what arrived twice before all.
    pub(super) fn selection(&mut self) -> OptionList {
        let twice = self.twice.take();
        let ranges = self.ranges.tell::<3>();
        OptionList::arrived(twice.into_iter().chain(ranges).map(|range| Block {
            start: self.numbering.number(range.start),
            end: self.numbering.number(range.end),
        }))
    }

    /// What is to be acknowledged: bytes without a gap, and the end.
    fn received(&self) -> u64 {
        self.next + u64::from(self.is_finished())
    }

    /// The part of a segment that is news and has room, and where it begins; `None` when there is none.
    fn cut<'a>(&mut self, place: Place, payload: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let whole = place.start.saturating_add_unsigned(payload.len() as u64);
        let limit = self.edge.min(self.ring.end()).min(self.end.unwrap_or(u64::MAX));
        let old = self.next.cast_signed().saturating_sub(place.start);
        let Ok(start) = u64::try_from(place.start.max(self.next.cast_signed())) else {
            return None;
        };
        let skipped = usize::try_from(old.max(0)).unwrap_or(usize::MAX);
        let bytes = payload.get(skipped..).unwrap_or_default();
        if !payload.is_empty() && bytes.is_empty() {
            self.note_twice(place.start, whole);
        }
        let only_end = bytes.is_empty() && whole == start.cast_signed() && !self.is_finished();
        let room = size(limit.saturating_sub(start));
        let bytes = bytes.get(..room).unwrap_or(bytes);
        (!bytes.is_empty() || (only_end && start <= limit)).then_some((start, bytes))
    }

    fn note_twice(&mut self, start: i64, end: i64) {
        if let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end)) {
            self.twice = Some(start..end);
        }
    }

    fn note_end(&mut self, end: i64) {
        let Ok(end) = u64::try_from(end) else { return };
        // An end that contradicts what came, or has no room, is none.
        if self.end.is_none() && end >= self.next && end <= self.edge {
            self.end = Some(end);
            self.ranges.truncate(end);
        }
    }

    fn keep_behind_gap(&mut self, start: u64, bytes: &[u8], memory: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = start + bytes.len() as u64;
        match self.ranges.insert(start, end) {
            Inserted::New => self.ring.put(memory, start, bytes),
            Inserted::Known => self.twice = Some(start..end),
            Inserted::Refused => {}
        }
    }

    /// The edge that could be announced; it stays where it is until it is worth a word (RFC 9293, 3.8.6.2.2).
    fn wanted_edge(&self) -> u64 {
        let spare = (1_u64 << self.scale) - 1;
        let most = self.received() + (u64::from(u16::MAX) << self.scale);
        let edge = self.ring.end().saturating_sub(spare).min(most);
        let worthwhile = self.segment.max(512).min(self.ring.span() as u64 / 2);
        if edge < self.edge + worthwhile {
            self.edge
        } else {
            edge
        }
    }

    /// Whether the other side should hear of the window before it is at its end.
    pub(super) fn is_window_news(&self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let wanted = self.wanted_edge();
        let step = WINDOW_STEP.min(self.ring.span() as u64 / 4);
        let left = self.edge.saturating_sub(self.next);
        wanted >= self.edge + step && wanted - self.next >= 2 * left
    }
}
