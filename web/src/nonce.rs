use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One-time value that lets the page's own style element pass the content security policy.
///
/// The caller draws the bytes from a cryptographic random source, anew for every answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Wraps 128 random bits.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(STANDARD.encode(bytes))
    }

    /// The base64 text as it stands in the header and in the attribute.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
