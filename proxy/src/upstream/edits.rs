//! Changes to a header section as data, so that they can be decided without the engine.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers to take away and, after that, headers to set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderEdits {
    /// Every line of these goes.
    pub(crate) remove: Vec<HeaderName>,
    /// Replace all lines of their name; later ones win.
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    /// Come on top of what is there.
    pub(crate) append: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// Sets a header to text; text that HTTP does not allow takes the header away instead.
    pub(crate) fn set_text(&mut self, name: HeaderName, text: &str) {
        match HeaderValue::from_str(text) {
            Ok(value) => self.set.push((name, value)),
            Err(_) => self.remove.push(name),
        }
    }
}

/// Headers that belong to one connection (RFC 9110, 7.6.1), without framing.
pub(crate) const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRAILER,
    header::UPGRADE,
];

/// Names in `Connection` lines; those that decide about framing and routing cannot be named away.
pub(crate) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| {
            !matches!(
                *name,
                header::HOST
                    | header::CONTENT_LENGTH
                    | header::TRANSFER_ENCODING
                    | header::TE
                    | header::UPGRADE
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nominations_never_touch_framing_or_host() {
        let mut headers = HeaderMap::new();
        headers.append("connection", HeaderValue::from_static("close, X-Secret ,host"));
        headers.append(
            "connection",
            HeaderValue::from_static("content-length, transfer-encoding, \"bad\""),
        );

        let names = nominated(&headers);

        assert_eq!(names, ["close", "x-secret"].map(HeaderName::from_static));
    }
}
