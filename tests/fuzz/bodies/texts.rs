//! Texts that become names, keys and ranges: what is understood is written as it is understood again.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use meshgate_proto::token::{Token, TokenKind};
use meshgate_proto::{Cidr, CountryCode, DomainName, WgPublicKey};

/// The bytes are a text.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = DomainName::new(text) {
        assert_eq!(DomainName::new(name.as_str()).as_ref(), Ok(&name));
        assert!(name.is_within(&name));
        if let Some(parent) = name.parent() {
            assert!(name.is_within(&parent) && !parent.is_within(&name));
        }
    }
    if let Some(range) = stays::<Cidr>(text) {
        assert!(range.contains(range.address()));
    }
    stays::<WgPublicKey>(text);
    if let Some(code) = CountryCode::new(text) {
        assert_eq!(CountryCode::new(code.as_str()).as_ref(), Some(&code));
    }
    for kind in [TokenKind::PersonalAccess, TokenKind::Proxy, TokenKind::Invite] {
        if let Ok(token) = Token::parse(kind, text) {
            assert!(Token::parse(kind, token.expose()).is_ok());
            assert_eq!(token.hash(), token.hash());
        }
    }
}

fn stays<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Debug> + Display + PartialEq + Debug,
{
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string().parse::<T>().as_ref().ok(), Some(&value));
    Some(value)
}
