//! Choice of the format of an answer from the client's `Accept` header.
//!
//! Only the three formats that the pages have are told apart; everything else in the header is ignored.

/// At most this many entries of an `Accept` header are looked at.
const MAX_ENTRIES: usize = 32;

/// How a page is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A page for a browser.
    Html,
    /// An object for a program.
    Json,
    /// A few lines for a terminal.
    Text,
}

impl Format {
    /// Value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// Picks the format that an `Accept` header asks for.
///
/// The highest quality wins, and at equal quality HTML before JSON before text. A client that names
/// none of the three (no header, `*/*`, only images) gets HTML.
pub fn preferred(accept: Option<&str>) -> Format {
    let mut best = Best {
        format: Format::Html,
        quality: 0,
    };

    for entry in accept.unwrap_or_default().split(',').take(MAX_ENTRIES) {
        let mut parts = entry.split(';').map(str::trim);
        let Some(format) = parts.next().and_then(named_format) else {
            continue;
        };
        let quality = quality(parts);
        if quality > best.quality || (quality == best.quality && rank(format) < rank(best.format)) {
            best = Best { format, quality };
        }
    }

    best.format
}

struct Best {
    format: Format,
    quality: u16,
}

fn rank(format: Format) -> u8 {
    match format {
        Format::Html => 0,
        Format::Json => 1,
        Format::Text => 2,
    }
}

fn named_format(media_type: &str) -> Option<Format> {
    let media_type = media_type.to_ascii_lowercase();
    match media_type.as_str() {
        "text/html" | "application/xhtml+xml" => Some(Format::Html),
        "application/json" | "application/*" => Some(Format::Json),
        "text/plain" | "text/*" => Some(Format::Text),
        other => other.ends_with("+json").then_some(Format::Json),
    }
}

/// Quality in thousandths; an absent one counts as 1000, an unreadable one as 0 (RFC 9110, 12.4.2).
fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u16 {
    let Some(value) = parameters.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))) else {
        return 1000;
    };
    match value.split_once('.').unwrap_or((value, "")) {
        ("1", rest) if rest.bytes().all(|b| b == b'0') => 1000,
        ("0", rest) if rest.len() <= 3 && rest.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{rest:0<3}").parse().unwrap_or(0)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    #[test]
    fn browsers_and_silent_clients_get_html() {
        for accept in [
            None,
            Some(""),
            Some("*/*"),
            Some("image/avif,image/webp"),
            Some(FIREFOX),
        ] {
            assert_eq!(preferred(accept), Format::Html, "{accept:?}");
        }
    }

    #[test]
    fn programs_get_json() {
        for accept in [
            "application/json",
            "application/json, text/plain, */*",
            "application/problem+json",
            "APPLICATION/JSON; charset=utf-8",
            "text/html;q=0.5, application/json;q=0.7",
        ] {
            assert_eq!(preferred(Some(accept)), Format::Json, "{accept}");
        }
    }

    #[test]
    fn terminals_get_text() {
        for accept in [
            "text/plain",
            "text/plain;q=0.9, text/html;q=0.899",
            "text/html;q=0, text/plain;q=0.001",
        ] {
            assert_eq!(preferred(Some(accept)), Format::Text, "{accept}");
        }
    }

    #[test]
    fn refused_and_unreadable_qualities_do_not_count() {
        assert_eq!(preferred(Some("application/json;q=0")), Format::Html);
        assert_eq!(preferred(Some("application/json;q=high")), Format::Html);
        assert_eq!(preferred(Some("application/json;q=2, text/plain")), Format::Text);
        assert_eq!(
            preferred(Some("application/json;q=0.1234, text/plain;q=0.1")),
            Format::Text
        );
    }

    proptest! {
        #[test]
        fn never_panics(accept in "\\PC*") {
            preferred(Some(&accept));
        }

        #[test]
        fn near_misses_never_panic(accept in "(text/html|application/json|text/plain|[a-z*]/[a-z*+]){0,2}(;[qQ]=[0-9.]{0,6}|[,; ]){0,8}") {
            preferred(Some(&accept));
        }
    }
}
