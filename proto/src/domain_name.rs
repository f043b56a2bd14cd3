//! Host names as routing compares them: lower case, no trailing dot, checked once.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A fully qualified host name in lower case, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Arc<str>);

impl DomainName {
    /// Checks and normalises a host name (RFC 1123 labels plus `_`, at most 253 bytes).
    ///
    /// One trailing dot is dropped and letters are folded to lower case.
    pub fn new(text: &str) -> Result<Self, InvalidDomainName> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(InvalidDomainName::Empty);
        }
        if name.len() > 253 {
            return Err(InvalidDomainName::TooLong);
        }
        for label in name.split('.') {
            check_label(label)?;
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label, if anything is left.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.into()))
    }

    /// True when this is `ancestor` or a name below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.0
            .strip_suffix(ancestor.as_str())
            .is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainName({})", self.0)
    }
}

impl Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for DomainName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = InvalidDomainName;

    fn from_str(text: &str) -> Result<Self, InvalidDomainName> {
        Self::new(text)
    }
}

/// Why text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomainName {
    /// Nothing was given.
    #[error("domain name is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("domain name is longer than 253 characters")]
    TooLong,
    /// A label is empty, too long, or begins or ends with a hyphen.
    #[error("domain name has a label that is empty, over 63 characters, or begins or ends with a hyphen")]
    Label,
    /// A character outside letters, digits, hyphen and underscore.
    #[error("domain name has a character other than letters, digits, hyphen, underscore and dot")]
    Character,
}

fn check_label(label: &str) -> Result<(), InvalidDomainName> {
    if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
        return Err(InvalidDomainName::Label);
    }
    if label
        .bytes()
        .any(|b| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
    {
        return Err(InvalidDomainName::Character);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_case_and_drops_one_trailing_dot() {
        assert_eq!(
            DomainName::new("WhoAmI.Proxy.Example.").unwrap().as_str(),
            "whoami.proxy.example"
        );
        assert_eq!(DomainName::new("a.."), Err(InvalidDomainName::Label));
    }

    #[test]
    fn within_needs_a_label_boundary() {
        let base = DomainName::new("proxy.test").unwrap();

        assert!(DomainName::new("a.proxy.test").unwrap().is_within(&base));
        assert!(base.is_within(&base));
        assert!(!DomainName::new("aproxy.test").unwrap().is_within(&base));
    }

    #[test]
    fn refuses_what_is_no_host_name() {
        for text in [
            "", ".", "a b", "-a.test", "a-.test", "a..b", "ä.test", "a:80", "*.a.test",
        ] {
            assert!(DomainName::new(text).is_err(), "{text}");
        }
        assert_eq!(DomainName::new(&"a.".repeat(127)).map(|_| ()), Ok(()));
        assert_eq!(
            DomainName::new(&"a.".repeat(128)),
            Err(InvalidDomainName::TooLong)
        );
    }
}
