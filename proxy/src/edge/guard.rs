//! Keeps the bytes of an HTTP/1 head back until the whole of it has come and passed.
//!
//! The usual head comes in one piece and is looked at where it lies; only one that comes in several is
//! copied. What follows a head goes by untouched, and is merely watched when it comes in chunks.

use super::chunks::{BadChunk, Chunks};
use super::head::{self, EndOfHead, Framing, Refusal};

/// Between a client and the engine.
#[derive(Debug)]
pub(super) struct Guard {
    /// A head that has not all come, or what has passed and waits for the engine.
    held: Vec<u8>,
    /// How much of it the engine has.
    given: usize,
    end: EndOfHead,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(Option<Chunks>),
}

/// What becomes of bytes that have just come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The engine may have them.
    Pass,
    /// They are kept until more has come.
    Hold,
    /// They have been taken in, and [`Guard::give`] has something.
    Give,
    /// The client gets this answer and nothing else.
    Refuse(Refusal),
}

impl Guard {
    /// Waits for a head.
    pub(super) fn new() -> Self {
        Self {
            held: Vec::new(),
            given: 0,
            end: EndOfHead::default(),
            state: State::Head,
        }
    }

    /// The request is over, what comes next is a head.
    pub(super) fn expect_head(&mut self) {
        if self.state != State::Head {
            *self = Self::new();
        }
    }

    /// Looks at bytes from the client.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Result<Look, BadChunk> {
        if let State::Body(chunks) = &mut self.state {
            self.held = Vec::new();
            self.given = 0;
            let followed = chunks.as_mut().map_or(Ok(()), |chunks| chunks.follow(bytes));
            return followed.map(|()| Look::Pass);
        }
        let in_place = self.held.is_empty() && !bytes.starts_with(b"\r\n");
        if !in_place {
            self.held.extend_from_slice(bytes);
            // Some clients send an empty line behind a body, which belongs to no request.
            // Thousands of them may come at once, so they are taken away in one go.
            let empty_lines = self.held.chunks(2).take_while(|line| *line == b"\r\n").count();
            if empty_lines > 0 {
                self.held.drain(..2 * empty_lines);
                self.end = EndOfHead::default();
            }
        }
        let all = if in_place { bytes } else { &self.held };
        let size = match self.end.find(all) {
            Ok(Some(size)) => size,
            Ok(None) => {
                if in_place {
                    self.held.extend_from_slice(bytes);
                }
                return Ok(Look::Hold);
            }
            Err(refusal) => return Ok(Look::Refuse(refusal)),
        };
        let (head, rest) = all.split_at(size);
        let mut chunks = match head::check(head) {
            Ok(Framing::Length) => None,
            Ok(Framing::Chunks) => Some(Chunks::new()),
            Err(refusal) => return Ok(Look::Refuse(refusal)),
        };
        if chunks.as_mut().is_some_and(|chunks| chunks.follow(rest).is_err()) {
            return Ok(Look::Refuse(Refusal::Malformed));
        }
        self.state = State::Body(chunks);
        Ok(if in_place { Look::Pass } else { Look::Give })
    }

    /// Moves up to `room` bytes that have passed to the engine.
    pub(super) fn give(&mut self, room: usize) -> &[u8] {
        if !matches!(self.state, State::Body(_)) {
            return &[];
        }
        let start = self.given;
        self.given = self.held.len().min(start.saturating_add(room));
        &self.held[start..self.given]
    }

    /// True when there is something to give.
    pub(super) fn has_passed(&self) -> bool {
        matches!(self.state, State::Body(_)) && self.given < self.held.len()
    }
}
