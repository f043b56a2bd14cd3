//! Sealed probes between peers of our own kind, on the WireGuard socket. Pure.
//!
//! `magic(8) | tag of the sender(8) | nonce and NaCl box of (kind(1), id(8))`. The box proves who sent it; the
//! id proves that an answer belongs to a probe of ours. The first bytes can be taken neither for WireGuard
//! nor for STUN.

use meshgate_proto::envelope::Envelope;
use meshgate_proto::relay::PeerHash;

const MAGIC: [u8; 8] = *b"mgprobe1";
const TAG_LEN: usize = 8;
const CLEAR_LEN: usize = 9;
const PROBE: u8 = 1;
const ANSWER: u8 = 2;

/// Names the sender without telling its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tag([u8; TAG_LEN]);

impl Tag {
    /// The first bytes of the relay's name of a peer, behind its constant start.
    pub(crate) fn of(hash: &PeerHash) -> Self {
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash.as_bytes()[4..4 + TAG_LEN]);
        Self(tag)
    }
}

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Answer me.
    Ask(u64),
    /// The answer to that probe.
    Answer(u64),
}

impl Probe {
    /// Writes the datagram.
    pub(crate) fn seal(self, sender: Tag, envelope: &Envelope) -> Vec<u8> {
        let (kind, id) = match self {
            Self::Ask(id) => (PROBE, id),
            Self::Answer(id) => (ANSWER, id),
        };
        let mut clear = [kind; CLEAR_LEN];
        clear[1..].copy_from_slice(&id.to_be_bytes());
        let mut datagram = Vec::with_capacity(96);
        datagram.extend_from_slice(&MAGIC);
        datagram.extend_from_slice(&sender.0);
        datagram.extend_from_slice(&envelope.seal(&clear));
        datagram
    }

    /// Opens a box that [`split`] found.
    pub(crate) fn open(sealed: &[u8], envelope: &Envelope) -> Option<Self> {
        let clear = envelope.open(sealed).ok()?;
        let (kind, id) = clear.split_first()?;
        let id = u64::from_be_bytes(id.try_into().ok()?);
        match *kind {
            PROBE => Some(Self::Ask(id)),
            ANSWER => Some(Self::Answer(id)),
            _ => None,
        }
    }
}

/// Finds the sender's tag and the box of a datagram.
pub(crate) fn split(datagram: &[u8]) -> Option<(Tag, &[u8])> {
    let rest = datagram.strip_prefix(&MAGIC)?;
    let (tag, sealed) = rest.split_first_chunk::<TAG_LEN>()?;
    Some((Tag(*tag), sealed))
}

#[cfg(test)]
mod tests {
    use meshgate_proto::WgPrivateKey;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_two_peers_can_write_a_probe() {
        let (a, b, c) = (key(1), key(2), key(3));
        let tag = Tag::of(&PeerHash::of(&a.public()));
        let datagram = Probe::Ask(7).seal(tag, &Envelope::new(&a, &b.public()));

        let (sender, sealed) = split(&datagram).unwrap();

        assert_eq!(sender, tag);
        assert_eq!(
            Probe::open(sealed, &Envelope::new(&b, &a.public())),
            Some(Probe::Ask(7))
        );
        assert_eq!(Probe::open(sealed, &Envelope::new(&b, &c.public())), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(datagram in proptest::collection::vec(any::<u8>(), 0..128), magic: bool) {
            let mut bytes = if magic { MAGIC.to_vec() } else { Vec::new() };
            bytes.extend(datagram);
            if let Some((_, sealed)) = split(&bytes) {
                prop_assert_eq!(Probe::open(sealed, &Envelope::new(&key(1), &key(2).public())), None);
            }
        }
    }

    fn key(byte: u8) -> WgPrivateKey {
        WgPrivateKey::from_bytes([byte; 32])
    }
}
