//! The memory of a connection's two rings, and where bytes lie in it.
//!
//! Memory comes from the system page by page as bytes are put in, and goes back while nothing is in it, so that a
//! connection which waits costs no buffer however much it has carried. A ring begins small and grows as its connection
//! needs it, and begins anew at its first byte whenever it is empty: short messages use the same page again and again.

use std::ops::Range;

use memmap2::MmapMut;

use crate::Buffers;

/// One piece of memory for both rings.
#[derive(Debug)]
pub(super) struct Rings {
    memory: MmapMut,
    receive: usize,
}

impl Rings {
    /// Asks the system for the address range; `None` when it has none to give.
    pub(super) fn new(buffers: Buffers) -> Option<Self> {
        let memory = MmapMut::map_anon(buffers.receive + buffers.transmit).ok()?;
        // One byte would make half a ring resident otherwise. A system without such pages says no, which is fine.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::NoHugePage);
        Some(Self {
            memory,
            receive: buffers.receive,
        })
    }

    pub(super) fn receive(&mut self) -> &mut [u8] {
        &mut self.memory[..self.receive]
    }

    pub(super) fn transmit(&mut self) -> &mut [u8] {
        &mut self.memory[self.receive..]
    }

    /// Gives the pages back; both rings read as anything from now on, so nothing may be in them.
    #[cfg_attr(unix, expect(unsafe_code, reason = "only the kernel can take pages away"))]
    #[cfg_attr(not(unix), expect(clippy::unused_self, reason = "there is no such call"))]
    pub(super) fn release(&mut self) {
        // A system that keeps the pages does no harm.
        #[cfg(unix)]
        // SAFETY: the range is our own anonymous mapping, which stays mapped and reads as zeros; bytes of any value
        // are valid, and the owner of the rings has said that nobody waits for these.
        let _ = unsafe { self.memory.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

/// A window over an endless stream: the bytes from `begin` on have a place, as many as its span.
#[derive(Debug)]
pub(super) struct Ring {
    begin: u64,
    /// Where the first byte lies.
    at: usize,
    span: usize,
}

impl Ring {
    pub(super) fn new(span: usize) -> Self {
        Self {
            begin: 0,
            at: 0,
            span,
        }
    }

    /// Offset of the first byte that has a place.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// Offset behind the last byte that has a place.
    pub(super) fn end(&self) -> u64 {
        self.begin + self.span as u64
    }

    pub(super) fn span(&self) -> usize {
        self.span
    }

    /// Puts bytes at an offset; what has no place is left out.
    pub(super) fn put(&self, memory: &mut [u8], from: u64, bytes: &[u8]) {
        let [first, second] = self.pieces(from, bytes.len());
        let (front, back) = bytes.split_at(first.len());
        let back = &back[..second.len()];
        memory[first].copy_from_slice(front);
        memory[second].copy_from_slice(back);
    }

    /// The bytes from an offset on, as far as they have a place.
    pub(super) fn get<'a>(&self, memory: &'a [u8], from: u64, len: usize) -> [&'a [u8]; 2] {
        self.pieces(from, len).map(|piece| &memory[piece])
    }

    /// The bytes before an offset are not needed any longer.
    pub(super) fn advance(&mut self, to: u64) {
        let by = size(to.saturating_sub(self.begin)).min(self.span);
        self.begin += by as u64;
        self.at += by;
        if self.at >= self.span {
            self.at -= self.span;
        }
    }

    /// Nothing is in it: the next byte lies at the beginning again.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// Gives more bytes a place; `used` is how many from the first on have to be kept.
    pub(super) fn grow(&mut self, memory: &mut [u8], span: usize, used: usize) {
        let span = span.min(memory.len());
        if span <= self.span {
            return;
        }
        let wrapped = (self.at + used.min(self.span)).saturating_sub(self.span);
        let beside = wrapped.min(span - self.span);
        memory.copy_within(..beside, self.span);
        memory.copy_within(beside..wrapped, 0);
        self.span = span;
    }

    fn pieces(&self, from: u64, len: usize) -> [Range<usize>; 2] {
        let ahead = size(from.saturating_sub(self.begin)).min(self.span);
        let len = len.min(self.span - ahead);
        let start = self.at + ahead;
        if start >= self.span {
            let start = start - self.span;
            return [start..start + len, 0..0];
        }
        let first = len.min(self.span - start);
        [start..start + first, 0..len - first]
    }
}

/// A difference of offsets as a length.
pub(super) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_bytes_where_they_were_put(steps in prop::collection::vec((0..4u8, 0..100usize), 1..100)) {
            let mut memory = vec![0; 300];
            let mut ring = Ring::new(37);
            let mut end = 0_u64;
            for (step, amount) in steps {
                let used = size(end - ring.begin());
                match step {
                    0 | 1 => {
                        let len = amount.min(ring.span() - used);
                        let bytes: Vec<u8> = (end..end + len as u64).map(byte).collect();
                        ring.put(&mut memory, end, &bytes);
                        end += len as u64;
                    }
                    2 => ring.advance((ring.begin() + amount as u64).min(end)),
                    _ => ring.grow(&mut memory, ring.span() + amount, used),
                }
                if ring.begin() == end {
                    ring.rewind();
                }
                let all: Vec<u8> = ring.get(&memory, ring.begin(), size(end - ring.begin())).concat();
                prop_assert_eq!(all, (ring.begin()..end).map(byte).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let mut memory = vec![0; 10];
        let ring = Ring::new(10);

        ring.put(&mut memory, 8, &[1, 2, 3, 4]);
        ring.put(&mut memory, 100, &[9]);

        assert_eq!(ring.get(&memory, 7, 50).concat(), [0, 1, 2]);
    }

    fn byte(offset: u64) -> u8 {
        u8::try_from(offset * 31 % 251).unwrap()
    }
}
