//! WireGuard keys as the protocols write them: standard base64 of 32 bytes.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A public key, and with it the name of a peer on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgPublicKey([u8; 32]);

impl WgPublicKey {
    /// Wraps raw key bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw key bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first characters of the text form, for logs.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }

    /// True when this peer steers a connection to `remote` (compared as base64 text, not as bytes).
    pub fn controls(&self, remote: &Self) -> bool {
        self.to_string() > remote.to_string()
    }
}

impl fmt::Display for WgPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for WgPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WgPublicKey({})", self.short())
    }
}

impl FromStr for WgPublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

/// A private key. It is also the key of the boxes that a peer seals.
#[derive(Clone)]
pub struct WgPrivateKey(StaticSecret);

impl WgPrivateKey {
    /// Makes a key from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// Makes a fresh key.
    pub fn generate() -> Self {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        Self::from_bytes(*bytes)
    }

    /// The raw key bytes. Never log them.
    pub fn expose(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key as base64 text, for a key file.
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_bytes()))
    }

    /// The public half.
    pub fn public(&self) -> WgPublicKey {
        WgPublicKey(PublicKey::from(&self.0).to_bytes())
    }
}

impl fmt::Debug for WgPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WgPrivateKey(…)")
    }
}

impl PartialEq for WgPrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl FromStr for WgPrivateKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(|bytes| Self::from_bytes(*bytes))
    }
}

/// Text that is not standard base64 of exactly 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a WireGuard key: expected 44 characters of standard base64")]
pub struct InvalidKey;

fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    if text.len() != 44 {
        return Err(InvalidKey);
    }
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| InvalidKey)?);
    let array: [u8; 32] = bytes.as_slice().try_into().map_err(|_| InvalidKey)?;
    Ok(Zeroizing::new(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_public_key_of_the_golden_vectors() {
        let private: WgPrivateKey = "AAIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH2A=".parse().unwrap();

        assert_eq!(
            private.public().to_string(),
            "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw="
        );
    }

    #[test]
    fn the_controller_is_the_greater_text_not_the_greater_bytes() {
        let a: WgPublicKey = "0MZEVZAs1vwATd92Ok23BkhH0TFwXRiTR526G2ZS/y4=".parse().unwrap();
        let b: WgPublicKey = "/PNUPbv0kQ17g5bH8jpFnH2/ll/fA0/zLzyClGz2G38=".parse().unwrap();

        assert!(a.controls(&b));
        assert!(!b.controls(&a));
        assert!(a.as_bytes() < b.as_bytes());
    }

    #[test]
    fn refuses_other_lengths_and_alphabets() {
        for text in [
            "",
            "AAAA",
            "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9_AsrhtHHw=",
            &"A".repeat(44),
        ] {
            assert_eq!(text.parse::<WgPublicKey>(), Err(InvalidKey));
        }
    }
}
