//! Sequence numbers. They wrap on the wire; inside, bytes are counted from 0 and never wrap.

/// A number as it stands in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeqNr(pub(crate) u32);

impl SeqNr {
    pub(crate) fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How far it lies behind another one; negative when it lies before.
    pub(crate) fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }
}

/// Where the bytes of one direction stand in the sequence space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbering {
    /// The number of the first byte.
    first: SeqNr,
}

impl Numbering {
    /// The first byte follows a SYN of this number.
    pub(super) fn behind_syn(syn: SeqNr) -> Self {
        Self { first: syn.plus(1) }
    }

    pub(super) fn syn(self) -> SeqNr {
        SeqNr(self.first.0.wrapping_sub(1))
    }

    /// The number of the byte at an offset.
    pub(super) fn number(self, offset: u64) -> SeqNr {
        self.first
            .plus(u32::try_from(offset & 0xffff_ffff).expect("32 bits are left"))
    }

    /// The offset that a number means, if it is not further than half the space from another one. Numbers before the
    /// first byte have negative offsets.
    pub(super) fn offset(self, number: SeqNr, near: u64) -> i64 {
        let distance = number.distance(self.number(near));
        near.cast_signed().wrapping_add(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_and_offsets_do_not() {
        let numbering = Numbering::behind_syn(SeqNr(u32::MAX - 10));
        for near in [0, 9, 10, 11, 1 << 31, 1 << 32, (1 << 40) + 17] {
            for offset in [near, near + 5, near + 100_000] {
                assert_eq!(
                    numbering.offset(numbering.number(offset), near),
                    offset.cast_signed()
                );
            }
        }
    }

    #[test]
    fn what_lies_before_the_first_byte_is_negative() {
        let numbering = Numbering::behind_syn(SeqNr(0));

        assert_eq!(numbering.syn(), SeqNr(0));
        assert_eq!(numbering.offset(numbering.syn(), 0), -1);
        assert_eq!(numbering.offset(SeqNr(u32::MAX), 3), -2);
    }
}
