//! What targets learn about the client: forwarding and identity headers, which only the edge may set.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;

use super::edits::HeaderEdits;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_NETBIRD_USER: HeaderName = HeaderName::from_static("x-netbird-user");
const X_NETBIRD_GROUPS: HeaderName = HeaderName::from_static("x-netbird-groups");

/// Port where the client's address names none.
const HTTPS_PORT: u16 = 443;

/// What other proxies and gateways say about the client or the address, and `proxy`, which CGI programs
/// take for their own setting.
const ELSEWHERE_SET: [&str; 9] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-url",
    "x-rewrite-url",
    "proxy",
];

/// Names that may pass, but under no other spelling.
const ALIASED: [&str; 7] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "cookie",
    "authorization",
];

/// The client as targets see it.
#[derive(Clone, Debug)]
pub(crate) struct Client<'a> {
    /// Its address, as the edge believes it.
    pub(crate) address: IpAddr,
    /// Scheme that targets are told.
    pub(crate) scheme: &'static str,
    /// Host and port it asked for.
    pub(crate) authority: &'a Authority,
    /// E-mail address or name, if somebody logged in.
    pub(crate) user: Option<&'a str>,
    /// Its groups.
    pub(crate) groups: &'a [String],
}

/// Takes away what clients say about themselves and puts down what the edge knows.
pub(crate) fn describe(headers: &HeaderMap, client: &Client<'_>, edits: &mut HeaderEdits) {
    edits
        .remove
        .extend(headers.keys().filter(|name| is_reserved(name)).cloned());

    let address = HeaderValue::from_str(&client.address.to_canonical().to_string())
        .expect("an address is made of visible ASCII");
    let port = client.authority.port_u16().unwrap_or(HTTPS_PORT);
    edits.set.push((X_FORWARDED_FOR, address.clone()));
    edits.set.push((X_REAL_IP, address));
    edits
        .set
        .push((X_FORWARDED_PROTO, HeaderValue::from_static(client.scheme)));
    edits.set.push((X_FORWARDED_PORT, HeaderValue::from(port)));
    edits.set_text(X_FORWARDED_HOST, client.authority.as_str());

    if let Some(user) = client.user.filter(|user| is_printable(user)) {
        edits.set_text(X_NETBIRD_USER, user);
    }
    let groups: Vec<&str> = client
        .groups
        .iter()
        .map(String::as_str)
        .filter(|group| is_printable(group) && !group.contains(','))
        .collect();
    if !groups.is_empty() {
        edits.set_text(X_NETBIRD_GROUPS, &groups.join(","));
    }
}

/// True for headers that only the edge may set, under any spelling that an application might fold into
/// the real one: CGI and WSGI turn `-` into `_`, and some servers turn `.` into `_` as well.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    let folded = &*folded(name);
    ELSEWHERE_SET.contains(&folded)
        || (ALIASED.contains(&folded) && folded != name.as_str())
        || folded.starts_with("x-forwarded-")
        || folded.starts_with("x-netbird-")
}

/// True when an application might take one name for the other.
pub(crate) fn is_alias(name: &HeaderName, of: &HeaderName) -> bool {
    name == of || folded(name) == folded(of)
}

fn folded(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    if name.contains(['_', '.']) {
        Cow::Owned(name.replace(['_', '.'], "-"))
    } else {
        Cow::Borrowed(name)
    }
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// True for names that a configured header must not have: they belong to the edge or to the connection.
pub(crate) fn is_fixed(name: &HeaderName) -> bool {
    is_reserved(name)
        || super::edits::HOP_BY_HOP.contains(name)
        || matches!(
            *name,
            header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TE | header::COOKIE
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(headers: &HeaderMap, user: Option<&str>, groups: &[String]) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        let authority = Authority::from_static("app.test:8443");
        let client = Client {
            address: "::ffff:192.0.2.7".parse().unwrap(),
            scheme: "https",
            authority: &authority,
            user,
            groups,
        };
        describe(headers, &client, &mut edits);
        edits
    }

    fn value(edits: &HeaderEdits, name: &str) -> Option<String> {
        let found = edits.set.iter().find(|(set, _)| set == name)?;
        Some(found.1.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_spelling_of_a_reserved_header_is_taken_away() {
        let mut headers = HeaderMap::new();
        let hostile = [
            "x-netbird-user",
            "x_netbird_user",
            "x.netbird.groups",
            "x-netbird_groups",
            "forwarded",
            "x_forwarded_for",
            "x-forwarded-prefix",
            "x.real.ip",
            "x_forwarded.proto",
            "x-forwarded",
            "content_length",
            "transfer_encoding",
            "content.type",
            "proxy",
            "x-original-url",
            "x_rewrite_url",
            "cf-connecting-ip",
            "true_client_ip",
            "x-client-ip",
        ];
        for name in hostile {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("evil"));
        }
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        headers.insert("x-forward", HeaderValue::from_static("fine"));

        let edits = edits(&headers, None, &[]);

        for name in hostile {
            assert!(edits.remove.iter().any(|removed| removed == name), "{name}");
        }
        assert!(
            edits
                .remove
                .iter()
                .all(|removed| removed != "x-forward" && removed != "content-type")
        );
        assert_eq!(value(&edits, "x-netbird-user"), None);
    }

    #[test]
    fn says_who_asked_and_how() {
        let groups = [
            "dev".to_owned(),
            "a,b".to_owned(),
            "ops\n".to_owned(),
            "ops".to_owned(),
        ];

        let edits = edits(&HeaderMap::new(), Some("a@b.test"), &groups);

        for (name, expected) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-host", "app.test:8443"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
            ("x-netbird-user", "a@b.test"),
            ("x-netbird-groups", "dev,ops"),
        ] {
            assert_eq!(value(&edits, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn names_that_break_lines_are_left_out() {
        assert_eq!(
            value(&edits(&HeaderMap::new(), Some("a\r\nb"), &[]), "x-netbird-user"),
            None
        );
    }
}
