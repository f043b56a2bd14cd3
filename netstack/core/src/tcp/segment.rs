//! A segment comes in (RFC 9293, 3.10.7, with the caution of RFC 5961).

use std::time::Instant;

use super::header::Options;
use super::receive::{Place, Urgency};
use super::send::{Acknowledgement, Judgement};
use super::seq::SeqNr;
use super::time::{MILLISECOND, Time};
use super::{Reset, Stage, Tcp, wake};
use crate::stack::packet::{Packet, Segment};

/// Pause between two answers to something out of place, which could answer each other.
const CHALLENGE_PAUSE: u64 = 100 * MILLISECOND;

impl Tcp {
    /// Takes a segment of this connection; answers leave with the next [`Tcp::transmit`].
    pub(crate) fn receive(&mut self, epoch: Instant, now: Instant, packet: &Packet<'_>, segment: &Segment) {
        let now = Time::new(epoch, now);
        let options = Options::parse(segment.options(packet));
        match &self.stage {
            Stage::Closed => {}
            Stage::Opening(opening) if !opening.is_answer() => self.receive_answer(now, segment, &options),
            Stage::Opening(_) | Stage::Open | Stage::TimeWait => {
                self.receive_known(now, segment, &options, segment.payload(packet));
            }
        }
    }

    fn receive_known(&mut self, now: Time, segment: &Segment, options: &Options, payload: &[u8]) {
        let flags = segment.flags;
        let len = payload.len() as u64 + u64::from(flags.fin());
        let place = self.receiver.place(SeqNr(segment.sequence), len);
        if flags.rst() {
            self.receive_reset(now, place);
            return;
        }
        if flags.syn() {
            // Its sender did not get our answer, or it is a late copy.
            self.answer_again();
            self.challenge(now);
            return;
        }
        if !flags.ack() {
            return;
        }
        let acceptable = self.receiver.is_acceptable(place);
        if !acceptable && len == 0 {
            self.challenge(now);
        } else if !acceptable {
            self.receiver.refuse(now, place, payload.len());
        }
        // What a segment acknowledges counts although it brings nothing but old data.
        let is_known = acceptable || place.start <= self.receiver.reach();
        let is_sound = is_known && self.receive_ack(now, segment, options, place);
        if is_sound && acceptable && len > 0 {
            self.receive_data(now, place, payload, flags.fin());
        }
        self.finish(now);
    }

    fn receive_reset(&mut self, now: Time, place: Place) {
        if self.receiver.is_next(place) {
            self.end();
        } else if self.receiver.is_acceptable(Place { len: 0, ..place }) {
            self.challenge(now);
        }
    }

    /// Returns whether the rest of the segment is to be looked at.
    fn receive_ack(&mut self, now: Time, segment: &Segment, options: &Options, place: Place) -> bool {
        let number = SeqNr(segment.acknowledgement);
        let offset = self.sender.offset(number);
        if matches!(self.stage, Stage::Opening(_)) {
            if offset != 0 {
                self.reset = Some(Reset::Answer(number));
                return false;
            }
            self.establish(now);
        }
        match self.sender.judge(offset) {
            Judgement::Good => {}
            Judgement::Unsent | Judgement::Ancient => {
                self.challenge(now);
                return false;
            }
        }
        let Ok(next) = u64::try_from(offset) else {
            return false;
        };
        let bare = place.len == 0;
        self.sender.handle_ack(
            now,
            &Acknowledgement {
                next,
                window: segment.window,
                told_at: place.start,
                bare,
                options,
            },
        );
        self.sender.tune(self.rings.transmit());
        if self.sender.is_roomy() {
            wake(&mut self.writer);
        }
        true
    }

    fn receive_data(&mut self, now: Time, place: Place, payload: &[u8], ends: bool) {
        self.warm |= !payload.is_empty();
        let memory = self.rings.receive();
        if self.receiver.take(now, place, payload, ends, memory) {
            if self.receiver.is_finished() {
                self.answers_end = !self.sender.has_sent_end();
            }
            wake(&mut self.reader);
        }
        let round_trip = self.sender.round_trip().minimum();
        self.receiver.tune(now, round_trip, self.rings.receive());
    }

    /// Both sides may be through.
    fn finish(&mut self, now: Time) {
        let is_open = matches!(self.stage, Stage::Open);
        let ours = self.sender.is_closed() && self.sender.is_acknowledged();
        if !is_open || !ours || !self.receiver.is_finished() {
            return;
        }
        if self.answers_end {
            self.end();
        } else {
            self.stage = Stage::TimeWait;
            self.receiver.want(Urgency::Now, now);
            self.wake_all();
        }
    }

    /// Says where we are, but not as often as somebody asks.
    fn challenge(&mut self, now: Time) {
        let rested = self
            .challenged
            .is_none_or(|last| now.since(last) >= CHALLENGE_PAUSE);
        if rested {
            self.challenged = Some(now);
            self.receiver.want(Urgency::Now, now);
        }
    }
}
