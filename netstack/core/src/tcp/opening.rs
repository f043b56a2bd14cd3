//! The handshake: SYN, SYN-ACK, and what they agree on.

use super::header::{Ends, OptionList, Options, Sack};
use super::receive::{Receiver, Urgency};
use super::ring::Rings;
use super::rtt::{INITIAL_TIMEOUT, backed_off};
use super::send::{Sender, Terms};
use super::seq::SeqNr;
use super::time::Time;
use super::{Reset, Setup, Stage, Tcp};
use crate::stack::packet::Segment;

/// Payload of a segment for somebody who does not say what he takes (RFC 9293, 3.7.1).
const UNKNOWN_SEGMENT: u16 = 536;
/// Least payload that is believed.
const MIN_SEGMENT: u16 = 64;

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Opening {
    role: Role,
    /// When our SYN first left.
    left: Option<Time>,
    /// How often it left.
    times: u32,
    /// When it leaves again; at once if unknown.
    again: Option<Time>,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Dial,
    /// The other side's SYN came, and said this.
    Answer(Offer),
}

/// What the other side's SYN says.
#[derive(Debug, Clone, Copy)]
struct Offer {
    terms: Terms,
    scale: Option<u8>,
}

impl Opening {
    fn new(role: Role) -> Self {
        Self {
            role,
            left: None,
            times: 0,
            again: None,
        }
    }

    pub(super) fn is_answer(&self) -> bool {
        matches!(self.role, Role::Answer(_))
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.is_some()
    }

    pub(super) fn poll_at(&self) -> Option<Time> {
        self.again
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.again.is_none_or(|at| at <= now)
    }

    pub(super) fn handle_sent(&mut self, now: Time) {
        self.left.get_or_insert(now);
        self.again = Some(now.after(backed_off(INITIAL_TIMEOUT, self.times)));
        self.times += 1;
    }

    /// How long the answer took, if it is one to our only SYN.
    fn took(&self, now: Time) -> Option<u64> {
        self.left.filter(|_| self.times == 1).map(|left| now.since(left))
    }

    /// The options of our SYN. An answer says nothing that was not offered.
    pub(super) fn options(&self, segment: u16, scale: u8) -> OptionList {
        match self.role {
            Role::Dial => OptionList::opening(segment, Some(scale), Sack::Permitted),
            Role::Answer(offer) => {
                let sack = if offer.terms.selective {
                    Sack::Permitted
                } else {
                    Sack::Unknown
                };
                OptionList::opening(segment, offer.scale.map(|_| scale), sack)
            }
        }
    }
}

impl Offer {
    fn new(segment: &Segment, options: &Options, fits: u16) -> Self {
        let takes = options.segment_size.unwrap_or(UNKNOWN_SEGMENT);
        Self {
            terms: Terms {
                segment: takes.max(MIN_SEGMENT).min(fits),
                window: segment.window,
                scale: options.scale.unwrap_or(0),
                selective: options.sack_permitted,
            },
            scale: options.scale,
        }
    }
}

impl Tcp {
    /// Starts a connection; the SYN leaves with the next [`Tcp::transmit`]. `None` when there is no memory.
    pub(crate) fn connect(setup: &Setup) -> Option<Self> {
        Self::new(setup, Role::Dial)
    }

    /// Answers a SYN; the answer leaves with the next [`Tcp::transmit`]. `None` when there is no memory.
    pub(crate) fn accept(setup: &Setup, syn: &Segment, options: &Options) -> Option<Self> {
        let ends = Ends {
            local: setup.local,
            remote: setup.remote,
        };
        let offer = Offer::new(syn, options, setup.mtu.saturating_sub(ends.overhead()));
        let mut this = Self::new(setup, Role::Answer(offer))?;
        this.receiver.start(SeqNr(syn.sequence));
        this.agree(offer);
        Some(this)
    }

    fn new(setup: &Setup, role: Role) -> Option<Self> {
        let rings = Rings::new(setup.buffers)?;
        let ends = Ends {
            local: setup.local,
            remote: setup.remote,
        };
        let scale = Receiver::scale_for(setup.buffers.receive);
        Some(Self {
            ends,
            segment: setup.mtu.saturating_sub(ends.overhead()),
            stage: Stage::Opening(Opening::new(role)),
            sender: Sender::new(SeqNr(setup.sequence), setup.buffers.transmit),
            receiver: Receiver::new(setup.buffers.receive, scale),
            rings,
            warm: false,
            selective: false,
            answers_end: false,
            probes: false,
            held: None,
            challenged: None,
            reset: None,
            reader: None,
            writer: None,
        })
    }

    /// Takes a segment while our SYN is not answered.
    pub(super) fn receive_answer(&mut self, now: Time, segment: &Segment, options: &Options) {
        let Stage::Opening(opening) = &self.stage else {
            return;
        };
        let flags = segment.flags;
        let expected = self.sender.number(0);
        let acknowledged = flags.ack() && SeqNr(segment.acknowledgement) == expected && opening.has_left();
        if flags.rst() {
            if acknowledged {
                self.end();
            }
            return;
        }
        if flags.ack() && !acknowledged {
            self.reset = Some(Reset::Answer(SeqNr(segment.acknowledgement)));
            return;
        }
        if !flags.syn() || !acknowledged {
            return;
        }
        let took = opening.took(now);
        let offer = Offer::new(segment, options, self.segment);
        self.receiver.start(SeqNr(segment.sequence));
        self.agree(offer);
        self.open(now, offer.terms, took);
        self.receiver.want(Urgency::Now, now);
    }

    /// Our SYN was acknowledged. What it answered says how we send.
    pub(super) fn establish(&mut self, now: Time) {
        if let Stage::Opening(opening) = &self.stage
            && let Role::Answer(offer) = opening.role
        {
            let took = opening.took(now);
            self.open(now, offer.terms, took);
        }
    }

    /// The other side did not get our answer.
    pub(super) fn answer_again(&mut self) {
        if let Stage::Opening(opening) = &mut self.stage {
            opening.again = None;
        }
    }

    fn agree(&mut self, offer: Offer) {
        self.selective = offer.terms.selective;
        if offer.scale.is_none() {
            self.receiver.forgo_scale();
        }
    }

    fn open(&mut self, now: Time, terms: Terms, took: Option<u64>) {
        self.sender.open(now, terms, took);
        self.stage = Stage::Open;
        self.wake_all();
    }
}
