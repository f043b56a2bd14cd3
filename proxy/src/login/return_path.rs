//! The way back after a login: a path of the same host and nothing else.

use http::HeaderValue;
use meshgate_web::RESERVED_PREFIX;

/// Longest way back that is remembered, in bytes.
const MAX_LEN: usize = 4096;

/// A path and query that a browser resolves to the host it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReturnPath(HeaderValue);

impl ReturnPath {
    /// The front page.
    pub(super) fn root() -> Self {
        Self(HeaderValue::from_static("/"))
    }

    /// Takes text that begins with exactly one slash and holds only visible ASCII without backslashes.
    ///
    /// Paths of the edge's own are refused: they lead back to the login.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let visible = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let foreign = rest.starts_with('/') || text.len() > MAX_LEN || !visible;
        if foreign || text.starts_with(RESERVED_PREFIX) {
            return None;
        }
        HeaderValue::from_str(text).ok().map(Self)
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().expect("only visible ASCII is taken in")
    }

    /// As the value of a `Location` header.
    pub(super) fn into_header(self) -> HeaderValue {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn keeps_paths_and_queries_of_this_host() {
        for text in [
            "/",
            "/a",
            "/a//b",
            "/a?next=https://other.test/",
            "/a?b=%2F#c",
            "/.meshgate",
            "/%2F/x",
        ] {
            assert_eq!(ReturnPath::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_other_hosts_and_what_browsers_make_of_them() {
        let long = format!("/{}", "a".repeat(MAX_LEN));
        for text in [
            "",
            "a",
            "//evil.test/",
            "///evil.test",
            "/\\evil.test",
            "\\/evil.test",
            "/\t/evil.test",
            "/\n/evil.test",
            "https://evil.test/",
            "/a\r\nSet-Cookie: x=1",
            "/ä",
            "/a b",
            "/.meshgate/login",
            &long,
        ] {
            assert_eq!(ReturnPath::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_host(text in "[/\\\\.:@?#%a\\t\\n\\r evil]{0,24}") {
            let base = Url::parse("https://app.test:8443/.meshgate/login").unwrap();
            if let Some(path) = ReturnPath::parse(&text) {
                let reached = base.join(path.as_str()).unwrap();
                prop_assert_eq!(reached.origin(), base.origin());
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = ReturnPath::parse(&text);
            let _ = ReturnPath::parse(&format!("/{text}"));
        }
    }
}
