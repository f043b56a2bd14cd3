//! Sealed messages: what was not sealed for us is not opened, as an envelope or as a probe.

use meshgate_proto::WgPrivateKey;
use meshgate_proto::envelope::Envelope;
use meshgate_proto::relay::PeerHash;

use super::probe::{Probe, Tag, split};

/// The first byte says whether the rest stands alone, or is what a box of ours holds.
pub(super) fn run(data: &[u8]) {
    let Some((&sealed, bytes)) = data.split_first() else {
        return;
    };
    let ours = WgPrivateKey::from_bytes([1; 32]);
    let theirs = WgPrivateKey::from_bytes([2; 32]);
    let envelope = Envelope::new(&ours, &theirs.public());
    if sealed % 2 == 0 {
        assert!(envelope.open(bytes).is_err());
        if let Some((_, sealed)) = split(bytes) {
            assert_eq!(Probe::open(sealed, &envelope), None);
        }
        return;
    }
    let theirs = Envelope::new(&theirs, &ours.public());
    let boxed = theirs.seal_with_nonce([0; 24], bytes);
    assert_eq!(envelope.open(&boxed).as_deref(), Ok(bytes));
    if let Some(probe) = Probe::open(&boxed, &envelope) {
        let tag = Tag::of(&PeerHash::from_bytes([3; 36]));
        let datagram = probe.seal(tag, &theirs);
        let opened = split(&datagram).and_then(|(_, sealed)| Probe::open(sealed, &envelope));
        assert_eq!(opened, Some(probe));
    }
}
