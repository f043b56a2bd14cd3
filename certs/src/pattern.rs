use std::fmt;

use meshgate_proto::{DomainName, InvalidDomainName};

/// A name as it stands in a certificate: one host, or every host one label below a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// This host only.
    Exact(DomainName),
    /// `*.` and this domain: hosts with exactly one label more (RFC 6125, 6.4.3).
    Wildcard(DomainName),
}

impl NamePattern {
    /// Reads `host.example` or `*.example`; a `*` anywhere else is refused.
    pub fn parse(text: &str) -> Result<Self, InvalidDomainName> {
        match text.strip_prefix("*.") {
            Some(base) => DomainName::new(base).map(Self::Wildcard),
            None => DomainName::new(text).map(Self::Exact),
        }
    }

    /// Whether a certificate with this name is good for the host.
    pub fn covers(&self, host: &DomainName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(base) => host
                .as_str()
                .split_once('.')
                .is_some_and(|(_, rest)| rest == base.as_str()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard(base) => write!(f, "*.{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcard_stands_for_one_label() {
        let pattern = NamePattern::parse("*.Proxy.Test").unwrap();

        assert!(pattern.covers(&DomainName::new("a.proxy.test").unwrap()));
        assert!(!pattern.covers(&DomainName::new("proxy.test").unwrap()));
        assert!(!pattern.covers(&DomainName::new("a.b.proxy.test").unwrap()));
        assert_eq!(pattern.to_string(), "*.proxy.test");
    }

    #[test]
    fn stars_elsewhere_are_refused() {
        for text in ["*", "*.", "a.*.test", "*a.test", "*.*.test"] {
            assert!(NamePattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = NamePattern::parse(&text);
        }
    }
}
