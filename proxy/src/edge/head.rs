//! The strict look at the head of an HTTP/1 request, before the engine's lenient one.
//!
//! The engine mends what it can: it escapes blanks in addresses, takes line feeds for line ends, and drops
//! a length that comes with chunks. Whatever can be read in two ways is refused here instead, so that
//! neither it nor a target has to choose.

use httparse::Status;

use crate::handler::MAX_HEAD;

/// Largest head that is taken in; a little above what a request may have, which then gets a proper page.
const MAX_RAW_HEAD: usize = MAX_HEAD + 4 * 1024;

/// Most header lines; the engine has no room for more.
const MAX_LINES: usize = 256;

/// Longest method.
const MAX_METHOD: usize = 32;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By a length, or there is none.
    Length,
    /// In chunks.
    Chunks,
}

/// Why a head is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not well formed, or not clear.
    Malformed,
    /// A method for tunnels.
    Tunnel,
    /// Too long an address.
    LongTarget,
    /// Too large a head.
    LargeHead,
}

impl Refusal {
    /// The whole answer.
    pub(super) fn answer(self) -> &'static [u8] {
        match self {
            Self::Malformed => {
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                Content-Length: 16\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n400 Bad Request\n"
            }
            Self::Tunnel => {
                b"HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n\
                Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nContent-Length: 23\r\n\
                Cache-Control: no-store\r\nConnection: close\r\n\r\n405 Method Not Allowed\n"
            }
            Self::LongTarget => {
                b"HTTP/1.1 414 URI Too Long\r\nContent-Type: text/plain; charset=utf-8\r\n\
                Content-Length: 17\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n414 URI Too Long\n"
            }
            Self::LargeHead => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n\
                Content-Length: 36\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n\
                431 Request Header Fields Too Large\n"
            }
        }
    }
}

/// Looks for the end of a head, and never twice at the same byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EndOfHead {
    seen: usize,
    lines: usize,
}

impl EndOfHead {
    /// The length of the head at the start of `bytes`, once its empty line is there.
    ///
    /// `bytes` is what has come so far; each call sees all of what the one before saw.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        for found in memchr::memchr_iter(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found + 1;
            if end > MAX_RAW_HEAD {
                break;
            }
            let line = &bytes[..end];
            if !line.ends_with(b"\r\n") {
                return Err(Refusal::Malformed);
            }
            if line.ends_with(b"\r\n\r\n") {
                return Ok(Some(end));
            }
            self.lines += 1;
        }
        self.seen = bytes.len();
        match (self.seen > MAX_RAW_HEAD, self.lines) {
            (false, _) => Ok(None),
            (true, 0) => Err(Refusal::LongTarget),
            (true, _) => Err(Refusal::LargeHead),
        }
    }
}

/// Checks a whole head, its empty line included.
pub(super) fn check(head: &[u8]) -> Result<Framing, Refusal> {
    let end = memchr::memchr(b'\n', head).ok_or(Refusal::Malformed)? + 1;
    let (line, fields) = head.split_at(end);
    let version = check_line(line)?;
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    match httparse::parse_headers(fields, &mut lines) {
        Ok(Status::Complete((size, lines))) if size == fields.len() => framing(version, lines),
        Ok(_) | Err(_) => Err(Refusal::Malformed),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Three parts with one blank between them.
fn check_line(line: &[u8]) -> Result<Version, Refusal> {
    let line = line.strip_suffix(b"\r\n").ok_or(Refusal::Malformed)?;
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let version = match version {
        b"HTTP/1.0" => Version::Http10,
        b"HTTP/1.1" => Version::Http11,
        _ => return Err(Refusal::Malformed),
    };
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Malformed);
    }
    if target.iter().any(u8::is_ascii_control) {
        return Err(Refusal::Malformed);
    }
    if method == b"CONNECT" {
        return Err(Refusal::Tunnel);
    }
    if target == b"*" || target.starts_with(b"/") || is_absolute(target) {
        Ok(version)
    } else {
        Err(Refusal::Malformed)
    }
}

fn is_absolute(target: &[u8]) -> bool {
    [&b"http://"[..], b"https://"].into_iter().any(|scheme| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// One length in digits, or `chunked` alone, or nothing.
fn framing(version: Version, lines: &[httparse::Header<'_>]) -> Result<Framing, Refusal> {
    let one = |name: &str| {
        let mut values = lines.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
        let first = values.next().map(|line| line.value.trim_ascii());
        if values.next().is_some() {
            Err(Refusal::Malformed)
        } else {
            Ok(first)
        }
    };
    match (one("content-length")?, one("transfer-encoding")?) {
        (None, None) => Ok(Framing::Length),
        (Some(length), None) if is_length(length) => Ok(Framing::Length),
        (None, Some(coding)) if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunks)
        }
        _ => Err(Refusal::Malformed),
    }
}

fn is_length(value: &[u8]) -> bool {
    value.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(value).is_ok_and(|digits| digits.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checked(line: &str, fields: &str) -> Result<Framing, Refusal> {
        check(format!("{line}\r\nhost: app.test\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn clear_heads_pass() {
        for (line, fields, expected) in [
            ("GET / HTTP/1.1", "", Framing::Length),
            ("GET /a?b=%20 HTTP/1.0", "x-a: 1\r\n", Framing::Length),
            ("GET /\u{e4} HTTP/1.1", "x-a: \u{e4}\r\n", Framing::Length),
            ("OPTIONS * HTTP/1.1", "", Framing::Length),
            ("GET HTTPS://app.test/ HTTP/1.1", "", Framing::Length),
            ("POST / HTTP/1.1", "Content-Length:  12 \r\n", Framing::Length),
            (
                "POST / HTTP/1.1",
                "Transfer-Encoding: Chunked\r\n",
                Framing::Chunks,
            ),
        ] {
            assert_eq!(checked(line, fields), Ok(expected), "{line} {fields}");
        }
    }

    #[test]
    fn request_lines_have_three_parts_and_one_blank_between() {
        for line in [
            "GET /a /b HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET /",
            "GET HTTP/1.1",
            "GET / HTTP/9.9",
            "GET / http/1.1",
            "GET /\u{1} HTTP/1.1",
            "GET /\t HTTP/1.1",
            "GE(T / HTTP/1.1",
            "GET app.test:80 HTTP/1.1",
            "GET ftp://app.test/ HTTP/1.1",
        ] {
            assert_eq!(checked(line, ""), Err(Refusal::Malformed), "{line}");
        }
        assert_eq!(checked("CONNECT app.test:443 HTTP/1.1", ""), Err(Refusal::Tunnel));
    }

    #[test]
    fn unclear_framing_and_broken_lines_are_refused() {
        for fields in [
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked, chunked\r\n",
            "transfer-encoding: \u{b}chunked\r\n",
            "transfer-encoding: gzip\r\n",
            "content-length: 4\r\ncontent-length: 4\r\n",
            "content-length: 4, 4\r\n",
            "content-length: +4\r\n",
            "content-length: -1\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "x-a: 1\r\n folded\r\n",
            "x-a : 1\r\n",
            "x-a: 1\rx\r\n",
            "x-a: \0\r\n",
            "nonsense\r\n",
        ] {
            assert_eq!(
                checked("POST / HTTP/1.1", fields),
                Err(Refusal::Malformed),
                "{fields:?}"
            );
        }
        assert_eq!(
            checked("POST / HTTP/1.0", "transfer-encoding: chunked\r\n"),
            Err(Refusal::Malformed)
        );
    }

    #[test]
    fn heads_end_where_their_empty_line_does() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nbody";
        let mut end = EndOfHead::default();
        for size in 0..27 {
            assert_eq!(end.find(&head[..size]), Ok(None), "{size}");
        }
        assert_eq!(end.find(head), Ok(Some(27)));

        assert_eq!(
            EndOfHead::default().find(b"GET / HTTP/1.1\n"),
            Err(Refusal::Malformed)
        );
        let long = vec![b'x'; MAX_RAW_HEAD + 1];
        assert_eq!(EndOfHead::default().find(&long), Err(Refusal::LongTarget));
        let large = [b"GET / HTTP/1.1\r\n", &long[..]].concat();
        assert_eq!(EndOfHead::default().find(&large), Err(Refusal::LargeHead));
    }

    #[test]
    fn answers_say_their_length() {
        for refusal in [
            Refusal::Malformed,
            Refusal::Tunnel,
            Refusal::LongTarget,
            Refusal::LargeHead,
        ] {
            let text = std::str::from_utf8(refusal.answer()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
            let _ = EndOfHead::default().find(&bytes);
        }

        #[test]
        fn what_passes_has_one_framing(fields in "((content-length|transfer-encoding)(:|: | :)(chunked|1|x|,){0,2}\r?\n){0,3}") {
            if checked("POST / HTTP/1.1", &fields).is_ok() {
                let lines = fields.matches("content-length").count() + fields.matches("transfer-encoding").count();
                prop_assert!(lines <= 1, "{}", fields);
            }
        }
    }
}
