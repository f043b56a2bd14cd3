//! Bearer tokens: a prefix that names the kind, thirty random characters and a checksum of six.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use sha2::{Digest, Sha256};

use crate::Secret;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LEN: usize = 30;
const CHECKSUM_LEN: usize = 6;
const TOKEN_LEN: usize = 4 + SECRET_LEN + CHECKSUM_LEN;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The REST API, in the name of a user (`nbp_`).
    PersonalAccess,
    /// The proxy service (`nbx_`).
    Proxy,
    /// Accepting an invitation (`nbi_`).
    Invite,
}

impl TokenKind {
    /// The four characters in front.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::PersonalAccess => "nbp_",
            Self::Proxy => "nbx_",
            Self::Invite => "nbi_",
        }
    }
}

/// Why text is not a token of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Another length or another prefix.
    #[error("token does not have the form {0}… with 40 characters")]
    Form(&'static str),
    /// A token of another kind.
    #[error("token is a {found} token where a {wanted} token is needed")]
    Kind {
        /// Prefix of what was given.
        found: &'static str,
        /// Prefix of what is needed.
        wanted: &'static str,
    },
    /// A character was mistyped or cut.
    #[error("token has a wrong checksum; was it copied whole?")]
    Checksum,
}

/// A token whose form and checksum are right. Whether it is known is another question.
#[derive(Clone, Debug)]
pub struct Token {
    kind: TokenKind,
    text: Secret<String>,
}

impl Token {
    /// Makes a new token.
    pub fn generate(kind: TokenKind) -> Self {
        let mut rng = rand::rng();
        let secret: String = (0..SECRET_LEN)
            .map(|_| char::from(ALPHABET[rng.random_range(0..62)]))
            .collect();
        let text = format!("{}{secret}{}", kind.prefix(), checksum(&secret));
        Self {
            kind,
            text: text.into(),
        }
    }

    /// Checks prefix, length, alphabet and checksum.
    pub fn parse(kind: TokenKind, text: &str) -> Result<Self, InvalidToken> {
        let wanted = kind.prefix();
        for other in [TokenKind::PersonalAccess, TokenKind::Proxy, TokenKind::Invite] {
            if other != kind && text.starts_with(other.prefix()) {
                return Err(InvalidToken::Kind {
                    found: other.prefix(),
                    wanted,
                });
            }
        }
        let body = text.strip_prefix(wanted).filter(|_| text.len() == TOKEN_LEN);
        let body = body.filter(|body| body.bytes().all(|b| b.is_ascii_alphanumeric()));
        let (secret, sum) = body.ok_or(InvalidToken::Form(wanted))?.split_at(SECRET_LEN);
        if checksum(secret) != sum {
            return Err(InvalidToken::Checksum);
        }
        Ok(Self {
            kind,
            text: text.into(),
        })
    }

    /// What it opens.
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The whole token, to hand it to its owner once.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// What the store keeps: standard base64 of the SHA-256 of the whole token.
    pub fn hash(&self) -> String {
        STANDARD.encode(Sha256::digest(self.text.expose().as_bytes()))
    }
}

fn checksum(secret: &str) -> String {
    let mut value = crc32fast::hash(secret.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LEN];
    for slot in digits.iter_mut().rev() {
        *slot = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checksum_is_crc32_in_base62_padded_to_six() {
        // CRC-32 of "123456789" is 0xCBF43926 (the check value of the catalogue of parametrised CRCs).
        assert_eq!(checksum("123456789"), base62(0xCBF4_3926));
        assert_eq!(checksum("").as_str(), "000000");
    }

    #[test]
    fn a_generated_token_parses_as_its_own_kind_only() {
        for _ in 0..200 {
            let token = Token::generate(TokenKind::Proxy);

            assert_eq!(token.expose().len(), 40);
            assert!(Token::parse(TokenKind::Proxy, token.expose()).is_ok());
            assert_eq!(
                Token::parse(TokenKind::PersonalAccess, token.expose()).map(|_| ()),
                Err(InvalidToken::Kind {
                    found: "nbx_",
                    wanted: "nbp_"
                })
            );
        }
    }

    #[test]
    fn one_changed_character_is_found() {
        let token = Token::generate(TokenKind::PersonalAccess);
        let mut text = token.expose().to_owned();
        let last = text.pop().unwrap();
        text.push(if last == 'a' { 'b' } else { 'a' });

        assert_eq!(
            Token::parse(TokenKind::PersonalAccess, &text).map(|_| ()),
            Err(InvalidToken::Checksum)
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = Token::parse(TokenKind::Proxy, &text);
            let _ = Token::parse(TokenKind::Proxy, &format!("nbx_{text}"));
        }
    }

    fn base62(mut value: u32) -> String {
        let mut out = Vec::new();
        while value > 0 {
            out.push(ALPHABET[(value % 62) as usize]);
            value /= 62;
        }
        out.resize(CHECKSUM_LEN, b'0');
        out.iter().rev().copied().map(char::from).collect()
    }
}
