//! Identifiers. Each kind of thing has its own type, so that one can never stand in for another.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest identifier that is taken from outside, in bytes.
pub const MAX_ID_LEN: usize = 255;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps text that is known to be an identifier of this kind.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier's text.
            pub fn into_string(self) -> String {
                self.0
            }

            /// True when nothing was given.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<Xid> for $name {
            fn from(xid: Xid) -> Self {
                Self(xid.text().into_iter().map(char::from).collect())
            }
        }
    )+};
}

ids! {
    /// One line of the access log.
    AccessLogId,
    /// A tenant.
    AccountId,
    /// A set of peers and resources.
    GroupId,
    /// A machine in the mesh.
    PeerId,
    /// A rule set between groups.
    PolicyId,
    /// One proxy process, named by itself.
    ProxyId,
    /// A published thing: domain, targets and access policy.
    ServiceId,
    /// A key with which machines join.
    SetupKeyId,
    /// What a service forwards to: a peer, a resource or a cluster.
    TargetId,
    /// A personal access token or a proxy token.
    TokenId,
    /// A person or a service user.
    UserId,
}

/// A sortable identifier of twelve bytes, written as twenty characters of `0-9a-v`.
///
/// Four bytes are seconds since the epoch, the rest is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid([u8; 12]);

impl Xid {
    /// Builds an identifier from a time and eight random bytes.
    pub fn new(now: crate::UnixTime, random: [u8; 8]) -> Self {
        let mut bytes = [0; 12];
        let seconds = u32::try_from(now.as_secs()).unwrap_or(0);
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Draws the random part from the operating system's generator behind `rand`.
    pub fn generate(now: crate::UnixTime) -> Self {
        Self::new(now, rand::random())
    }
}

impl Xid {
    /// The text, in ASCII.
    fn text(self) -> [u8; 20] {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
        let mut text = [0u8; 20];
        for (i, slot) in text.iter_mut().enumerate() {
            let bit = i * 5;
            let high = u16::from(self.0[bit / 8]) << 8;
            let low = self.0.get(bit / 8 + 1).copied().map_or(0, u16::from);
            let index = ((high | low) >> (11 - bit % 8)) & 31;
            *slot = ALPHABET[usize::from(index)];
        }
        text
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("the alphabet is ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixTime;

    #[test]
    fn xid_is_twenty_characters_and_sorts_by_time() {
        let older = Xid::new(UnixTime::from_secs(1_700_000_000), [255; 8]).to_string();
        let newer = Xid::new(UnixTime::from_secs(1_700_000_001), [0; 8]).to_string();

        assert_eq!(older.len(), 20);
        assert!(older < newer);
        assert!(
            older
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'v').contains(&b))
        );
    }

    #[test]
    fn xid_text_is_base32hex() {
        // RFC 4648 section 10 alphabet, without padding.
        let xid = Xid([
            0x4d, 0x88, 0xe1, 0x5b, 0x60, 0xf4, 0x86, 0xe4, 0x28, 0x41, 0x2d, 0xc9,
        ]);

        assert_eq!(xid.to_string(), "9m4e2mr0ui3e8a215n4g");
    }
}
