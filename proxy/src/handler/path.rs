//! The path of a request in the one form that is matched and sent.
//!
//! Clients, proxies and applications disagree about dot segments, repeated slashes and encoded separators;
//! every disagreement is a way around a prefix. So a path is normalised once. What could still be read in
//! two ways is refused, and everything later looks at the result only.

use std::fmt::Write as _;

/// A normalised path. It begins with one slash and has no dot segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPath {
    sent: String,
    /// Where it differs.
    matching: Option<String>,
}

/// A path that different programs would read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsafePath {
    /// It does not begin with a slash.
    #[error("path is not absolute")]
    NotAbsolute,
    /// A percent sign without two hexadecimal digits behind it.
    #[error("path has a broken percent escape")]
    Escape,
    /// A control character, plain or encoded.
    #[error("path has a control character")]
    Control,
    /// UTF-8 in more bytes than needed, which some decoders read as a plain character.
    #[error("path has overlong UTF-8")]
    Overlong,
    /// A dot segment in disguise, such as `..%2f` or `..;x`.
    #[error("path has a disguised dot segment")]
    HiddenDots,
}

/// How often an escaped segment is unescaped in search of hidden dots.
const UNESCAPE_ROUNDS: usize = 3;

impl RequestPath {
    /// Normalises a path without query.
    ///
    /// Escapes of unreserved characters are resolved (RFC 3986, 6.2.2), others are kept; dot segments are
    /// removed (5.2.4), never beyond the root; slashes at the very start become one.
    pub(crate) fn parse(raw: &str) -> Result<Self, UnsafePath> {
        let relative = raw.strip_prefix('/').ok_or(UnsafePath::NotAbsolute)?;
        if is_normal(raw) {
            return Ok(Self {
                sent: raw.to_owned(),
                matching: None,
            });
        }
        Self::normalise(relative)
    }

    fn normalise(relative: &str) -> Result<Self, UnsafePath> {
        let mut segments: Vec<String> = Vec::new();
        let mut ends_in_slash = false;
        for raw_segment in relative.split('/') {
            let segment = normal_segment(raw_segment)?;
            ends_in_slash = matches!(segment.as_str(), "" | "." | "..");
            match segment.as_str() {
                "." => {}
                ".." => drop(segments.pop()),
                // Nothing stands before a slash at the very start.
                "" if segments.is_empty() => {}
                _ => segments.push(segment),
            }
        }
        if ends_in_slash && segments.last().is_some_and(|last| !last.is_empty()) {
            segments.push(String::new());
        }
        let sent = format!("/{}", segments.join("/"));
        let matching = Some(matching_form(&segments)).filter(|form| *form != sent);
        Ok(Self { sent, matching })
    }

    /// Decoded, without repeated slashes: what prefixes are compared with.
    pub(crate) fn for_matching(&self) -> &str {
        self.matching.as_deref().unwrap_or(&self.sent)
    }

    /// What a target gets.
    pub(crate) fn as_sent(&self) -> &str {
        &self.sent
    }

    /// What is left to send when a matched prefix is cut off; begins with exactly one slash.
    pub(crate) fn without_prefix(&self, prefix: &str) -> String {
        let cut = prefix.split('/').filter(|segment| !segment.is_empty()).count();
        let mut rest = self.sent.as_str();
        for _ in 0..cut {
            let segment = rest.trim_start_matches('/');
            rest = segment.find('/').map_or("", |end| &segment[end..]);
        }
        format!("/{}", rest.trim_start_matches('/'))
    }
}

/// True for most paths: nothing in them has two readings.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().all(|byte| is_unreserved(*byte) || *byte == b'/')
        && !bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
}

fn matching_form(segments: &[String]) -> String {
    let mut form = String::new();
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        form.push('/');
        form.push_str(&readable(segment));
    }
    if form.is_empty() || segments.last().is_some_and(String::is_empty) {
        form.push('/');
    }
    form
}

/// A normal segment with its escapes resolved, except those that would change its shape.
fn readable(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    let mut bytes = Vec::with_capacity(segment.len());
    for piece in pieces(segment.as_bytes()) {
        match piece {
            Piece::Escaped(byte @ (b'/' | b'\\' | b'%')) => bytes.extend(format!("%{byte:02X}").into_bytes()),
            Piece::Plain(byte) | Piece::Escaped(byte) => bytes.push(byte),
            Piece::Broken => bytes.push(b'%'),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

fn normal_segment(raw: &str) -> Result<String, UnsafePath> {
    let mut normal = String::with_capacity(raw.len());
    let mut decoded = Vec::with_capacity(raw.len());
    for piece in pieces(raw.as_bytes()) {
        let (byte, escaped) = match piece {
            Piece::Plain(byte) => (byte, false),
            Piece::Escaped(byte) => (byte, true),
            Piece::Broken => return Err(UnsafePath::Escape),
        };
        if byte.is_ascii_control() {
            return Err(UnsafePath::Control);
        }
        decoded.push(byte);
        if is_unreserved(byte) || (!escaped && may_stand_plain(byte)) {
            normal.push(char::from(byte));
        } else {
            write!(normal, "%{byte:02X}").expect("writing into a String cannot fail");
        }
    }
    if has_overlong(&decoded) {
        return Err(UnsafePath::Overlong);
    }
    if !matches!(normal.as_str(), "." | "..") && hides_dots(decoded) {
        return Err(UnsafePath::HiddenDots);
    }
    Ok(normal)
}

enum Piece {
    Plain(u8),
    Escaped(u8),
    Broken,
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if first != b'%' {
            rest = tail;
            return Some(Piece::Plain(first));
        }
        let escape = tail.split_first_chunk::<2>();
        let byte = escape.and_then(|(digits, _)| Some(hex(digits[0])? << 4 | hex(digits[1])?));
        let (Some(byte), Some((_, behind))) = (byte, escape) else {
            rest = tail;
            return Some(Piece::Broken);
        };
        rest = behind;
        Some(Piece::Escaped(byte))
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Characters that need no escape in a segment (RFC 3986, `pchar`).
fn may_stand_plain(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
    )
}

fn has_overlong(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| match pair {
        [0xc0 | 0xc1, next] => (0x80..0xc0).contains(next),
        [0xe0, next] => (0x80..0xa0).contains(next),
        [0xf0, next] => (0x80..0x90).contains(next),
        _ => false,
    })
}

/// True when some decoder would find a dot segment in it.
fn hides_dots(mut bytes: Vec<u8>) -> bool {
    for _ in 0..UNESCAPE_ROUNDS {
        if bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dots) {
            return true;
        }
        if !bytes.contains(&b'%') {
            return false;
        }
        bytes = pieces(&bytes)
            .map(|piece| match piece {
                Piece::Plain(byte) | Piece::Escaped(byte) => byte,
                Piece::Broken => b'%',
            })
            .collect();
    }
    false
}

/// `.` or `..`, perhaps with the parameters behind it that some servers cut off.
fn is_dots(part: &[u8]) -> bool {
    let name = part.split(|byte| *byte == b';').next().unwrap_or_default();
    matches!(name.trim_ascii(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(raw: &str) -> String {
        RequestPath::parse(raw).unwrap().as_sent().to_owned()
    }

    fn matching(raw: &str) -> String {
        RequestPath::parse(raw).unwrap().for_matching().to_owned()
    }

    #[test]
    fn ordinary_paths_stay_as_they_are() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.txt",
            "/a%20b",
            "/a%2Fb",
            "/x;v=1",
            "/a//b",
            "/proxy/https://example.com/",
            "/caf%C3%A9",
            "/%E9",
            "/.well-known/acme",
            "/...",
            "/a..b",
        ] {
            assert_eq!(sent(path), path);
        }
    }

    #[test]
    fn dots_and_needless_escapes_are_resolved() {
        for (raw, expected) in [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("/%2e%2E/a", "/a"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("//evil.test/x", "/evil.test/x"),
            ("/a//../b", "/a/b"),
            ("/a\\b", "/a%5Cb"),
            ("/ä", "/%C3%A4"),
        ] {
            assert_eq!(sent(raw), expected, "{raw}");
        }
    }

    #[test]
    fn matching_is_decoded_and_has_single_slashes() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a//b///", "/a/b/"),
            ("/a%20b", "/a b"),
            ("/caf%C3%A9", "/café"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%5Cb", "/a%5Cb"),
            ("/a%25b", "/a%25b"),
            ("/%E9", "/%E9"),
        ] {
            assert_eq!(matching(raw), expected, "{raw}");
        }
    }

    #[test]
    fn what_reads_in_two_ways_is_refused() {
        for (raw, expected) in [
            ("", UnsafePath::NotAbsolute),
            ("*", UnsafePath::NotAbsolute),
            ("a/b", UnsafePath::NotAbsolute),
            ("/%", UnsafePath::Escape),
            ("/%4", UnsafePath::Escape),
            ("/%zz", UnsafePath::Escape),
            ("/a%00", UnsafePath::Control),
            ("/a%0d%0ab", UnsafePath::Control),
            ("/a\u{7f}", UnsafePath::Control),
            ("/public%2f..%2fadmin", UnsafePath::HiddenDots),
            ("/public/..%2fadmin", UnsafePath::HiddenDots),
            ("/public/..%5cadmin", UnsafePath::HiddenDots),
            ("/public\\..\\admin", UnsafePath::HiddenDots),
            ("/public/..;/admin", UnsafePath::HiddenDots),
            ("/public/..;x=1/admin", UnsafePath::HiddenDots),
            ("/public/%252e%252e/admin", UnsafePath::HiddenDots),
            ("/public/%25252e%25252e%25252fadmin", UnsafePath::HiddenDots),
            ("/public/%c0%ae%c0%ae/admin", UnsafePath::Overlong),
            ("/%e0%80%af", UnsafePath::Overlong),
        ] {
            assert_eq!(RequestPath::parse(raw), Err(expected), "{raw}");
        }
    }

    #[test]
    fn cutting_a_prefix_leaves_one_slash() {
        for (raw, prefix, expected) in [
            ("/app", "/app", "/"),
            ("/app/", "/app", "/"),
            ("/app/x", "/app", "/x"),
            ("/app//x", "/app", "/x"),
            ("/app/a//b", "/app", "/a//b"),
            ("//app//b//c", "/app/b", "/c"),
            ("/a%20b/c", "/a b", "/c"),
            ("/x/y", "", "/x/y"),
        ] {
            assert_eq!(
                RequestPath::parse(raw).unwrap().without_prefix(prefix),
                expected,
                "{raw}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_for_normal_is_normal(raw in "(/|[a.~-]|\\.\\.){0,12}") {
            let raw = format!("/{raw}");
            if is_normal(&raw) {
                prop_assert_eq!(RequestPath::normalise(&raw[1..]).unwrap(), RequestPath::parse(&raw).unwrap());
            }
        }

        #[test]
        fn never_panics(raw in "\\PC{0,60}") {
            let _ = RequestPath::parse(&raw);
            let _ = RequestPath::parse(&format!("/{raw}"));
        }

        #[test]
        fn is_idempotent_and_free_of_dots(raw in "/([a.%/;\\\\ é]|%2e|%2F|%5c|%25|%C3|%41|\\.\\./|\\./){0,24}") {
            if let Ok(path) = RequestPath::parse(&raw) {
                let again = RequestPath::parse(path.as_sent()).unwrap();

                prop_assert_eq!(&again, &path);
                prop_assert!(path.as_sent().split('/').all(|segment| !matches!(segment, "." | "..")));
                prop_assert!(path.for_matching().split('/').all(|segment| !matches!(segment, "." | "..")));
                prop_assert!(!path.as_sent().starts_with("//"));
                prop_assert!(!path.for_matching().contains("//"));
                prop_assert!(path.as_sent().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn what_follows_a_prefix_never_leaves_it(rest in "(/|[a.]|%2e|%2f|%5c|;|\\\\|%25){0,16}") {
            if let Ok(path) = RequestPath::parse(&format!("/app/{rest}")) {
                let matching = path.for_matching();
                if matching == "/app" || matching.starts_with("/app/") {
                    let cut = path.without_prefix("/app");

                    prop_assert!(cut.starts_with('/') && !cut.starts_with("//"));
                    let again = RequestPath::parse(&cut).unwrap();
                    prop_assert_eq!(again.as_sent(), &cut);
                }
            }
        }
    }
}
