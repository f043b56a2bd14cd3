//! The turn of a connection: everything that may leave does, as packets.

use std::time::Instant;

use super::header::{Header, OptionList};
use super::send::Due;
use super::seq::SeqNr;
use super::time::Time;
use super::{Reset, Stage, Tcp};
use crate::device::peer::Demand;
use crate::stack::packet::Flags;

/// What a probe carries: a byte that the other side has, or ignores.
const PROBE: &[u8] = &[0];
/// Acknowledgements of one turn; a batch may leave more gaps than one of them can tell.
const MOST_WORDS: usize = 16;

/// A connection's way out for one turn.
pub(crate) trait Exit {
    /// Whether another packet may leave.
    fn has_room(&self) -> bool;

    /// Where to write a packet.
    fn buffer(&mut self) -> &mut [u8];

    /// Sends so many bytes of the buffer.
    fn send(&mut self, len: usize, demand: Demand);
}

impl Tcp {
    /// Sends what may be sent, until nothing is left or the exit is full.
    pub(crate) fn transmit(&mut self, epoch: Instant, now: Instant, exit: &mut impl Exit) {
        let now = Time::new(epoch, now);
        self.run_timers(now);
        match &mut self.stage {
            Stage::Opening(opening) => {
                if opening.is_due(now) && exit.has_room() {
                    opening.handle_sent(now);
                    self.send_syn(exit);
                }
            }
            Stage::Open => {
                // Data takes an acknowledgement along, but not what lies behind gaps.
                let owes_more = self.has_more_to_say() && self.receiver.is_due(now);
                self.send_data(now, exit);
                self.send_word(now, owes_more, exit);
                self.sender.settle(now);
            }
            Stage::TimeWait => self.send_word(now, false, exit),
            Stage::Closed => {}
        }
        self.send_reset(exit);
    }

    fn run_timers(&mut self, now: Time) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        if let Some(since) = self.held.take() {
            self.sender.forgive(now, now.since(since));
        }
        match self.sender.handle_timers(now) {
            Due::Nothing => {}
            Due::Probe => self.probes = true,
            Due::End => self.abort(),
        }
    }

    fn send_data(&mut self, now: Time, exit: &mut impl Exit) {
        while exit.has_room()
            && let Some(piece) = self.sender.poll(now)
        {
            let window = self.receiver.announce();
            let (payload, ends) = self.sender.payload(self.rings.transmit(), piece);
            let pushes = payload.iter().any(|bytes| !bytes.is_empty());
            let flags = match (pushes, ends) {
                (_, true) => Flags::ACK.and(Flags::FIN),
                (true, false) => Flags::ACK.and(Flags::PSH),
                (false, false) => Flags::ACK,
            };
            let header = Header {
                flags,
                sequence: self.sender.number(piece.start),
                acknowledgement: self.receiver.acknowledgement(),
                window,
                options: OptionList::NONE,
            };
            if let Some(len) = self.ends.write(&header, payload, exit.buffer()) {
                exit.send(len, Demand::Answer);
            }
            self.sender.handle_sent(now, piece);
        }
    }

    /// Sends what no data took along: an acknowledgement, a sign of life.
    fn send_word(&mut self, now: Time, owes_more: bool, exit: &mut impl Exit) {
        if std::mem::take(&mut self.probes) && exit.has_room() {
            let behind = self.sender.number_behind();
            self.send_plain(behind, PROBE, OptionList::NONE, exit);
        }
        if !owes_more && !self.receiver.is_due(now) {
            return;
        }
        for _ in 0..MOST_WORDS {
            if !exit.has_room() {
                return;
            }
            let options = if self.has_more_to_say() {
                self.receiver.selection()
            } else {
                OptionList::NONE
            };
            self.send_plain(self.sender.next_number(), &[], options, exit);
            if !self.selective || !self.receiver.has_untold() {
                return;
            }
        }
    }

    fn has_more_to_say(&self) -> bool {
        self.selective && self.receiver.has_more_to_say()
    }

    fn send_plain(&mut self, sequence: SeqNr, payload: &[u8], options: OptionList, exit: &mut impl Exit) {
        let header = Header {
            flags: Flags::ACK,
            sequence,
            acknowledgement: self.receiver.acknowledgement(),
            window: self.receiver.announce(),
            options,
        };
        let demand = if payload.is_empty() {
            Demand::Nothing
        } else {
            Demand::Answer
        };
        if let Some(len) = self.ends.write(&header, [payload, &[]], exit.buffer()) {
            exit.send(len, demand);
        }
    }

    fn send_syn(&mut self, exit: &mut impl Exit) {
        let Stage::Opening(opening) = &self.stage else {
            return;
        };
        let (flags, acknowledgement) = if opening.is_answer() {
            (Flags::SYN.and(Flags::ACK), self.receiver.acknowledgement())
        } else {
            (Flags::SYN, SeqNr(0))
        };
        let header = Header {
            flags,
            sequence: self.sender.syn(),
            acknowledgement,
            window: self.receiver.first_window(),
            options: opening.options(self.segment, self.receiver.scale()),
        };
        if let Some(len) = self.ends.write(&header, [&[], &[]], exit.buffer()) {
            exit.send(len, Demand::Opening);
        }
    }

    fn send_reset(&mut self, exit: &mut impl Exit) {
        let Some(reset) = self.reset.filter(|_| exit.has_room()) else {
            return;
        };
        self.reset = None;
        let header = match reset {
            Reset::Ours => Header {
                flags: Flags::RST.and(Flags::ACK),
                sequence: self.sender.next_number(),
                acknowledgement: self.receiver.acknowledgement(),
                window: 0,
                options: OptionList::NONE,
            },
            Reset::Answer(number) => Header {
                flags: Flags::RST,
                sequence: number,
                acknowledgement: SeqNr(0),
                window: 0,
                options: OptionList::NONE,
            },
        };
        if let Some(len) = self.ends.write(&header, [&[], &[]], exit.buffer()) {
            exit.send(len, Demand::Nothing);
        }
    }
}
