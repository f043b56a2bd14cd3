//! Sealed bodies of the management and signal protocols: `nonce(24) || NaCl box`.
//!
//! The box is X25519, XSalsa20 and Poly1305; both keys are WireGuard keys.

use crypto_box::aead::{Aead, generic_array::GenericArray};
use crypto_box::{PublicKey, SalsaBox, SecretKey};

use crate::{WgPrivateKey, WgPublicKey};

/// Length of the nonce in front of each box.
pub const NONCE_LEN: usize = 24;
/// Length of a sealed empty message.
pub const MIN_LEN: usize = NONCE_LEN + 16;

/// A body that cannot be opened: too short, forged, or sealed for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed message cannot be opened with these keys")]
pub struct Unsealable;

/// The shared secret of two parties, ready to seal and open.
pub struct Envelope(SalsaBox);

impl Envelope {
    /// Derives the shared secret of our private key and the other's public key.
    pub fn new(ours: &WgPrivateKey, theirs: &WgPublicKey) -> Self {
        let secret = SecretKey::from(ours.expose());
        let public = PublicKey::from(*theirs.as_bytes());
        Self(SalsaBox::new(&public, &secret))
    }

    /// Seals with a fresh random nonce.
    pub fn seal(&self, clear: &[u8]) -> Vec<u8> {
        self.seal_with_nonce(rand::random(), clear)
    }

    /// Seals with a given nonce, which must never be used twice with the same keys.
    pub fn seal_with_nonce(&self, nonce: [u8; NONCE_LEN], clear: &[u8]) -> Vec<u8> {
        let boxed = self
            .0
            .encrypt(GenericArray::from_slice(&nonce), clear)
            .expect("messages are far below the limit of the cipher");
        let mut sealed = Vec::with_capacity(NONCE_LEN + boxed.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&boxed);
        sealed
    }

    /// Opens what the other party sealed.
    ///
    /// # Errors
    /// [`Unsealable`] when the body is cut, forged or meant for other keys.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (nonce, boxed) = sealed.split_at_checked(NONCE_LEN).ok_or(Unsealable)?;
        self.0
            .decrypt(GenericArray::from_slice(nonce), boxed)
            .map_err(|_| Unsealable)
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Envelope(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> (WgPrivateKey, WgPrivateKey) {
        (
            "AAIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH2A=".parse().unwrap(),
            "ICIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=".parse().unwrap(),
        )
    }

    #[test]
    fn seals_the_golden_vector() {
        let (a, b) = keys();
        let nonce = std::array::from_fn(|i| u8::try_from(i).unwrap());

        let sealed = Envelope::new(&a, &b.public()).seal_with_nonce(nonce, b"hello");

        assert_eq!(
            hex(&sealed),
            "000102030405060708090a0b0c0d0e0f1011121314151617b3468579e761630041eaa57a9ff9de727a90b73535"
        );
        assert_eq!(Envelope::new(&b, &a.public()).open(&sealed).unwrap(), b"hello");
    }

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    #[test]
    fn an_empty_message_still_makes_a_box() {
        let (a, b) = keys();

        let sealed = Envelope::new(&a, &b.public()).seal(b"");

        assert_eq!(sealed.len(), MIN_LEN);
        assert_eq!(Envelope::new(&b, &a.public()).open(&sealed).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn opening_garbage_fails_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (a, b) = keys();

            prop_assert_eq!(Envelope::new(&a, &b.public()).open(&bytes), Err(Unsealable));
        }
    }
}
