//! Rewriting between the address that clients see and the one that targets see.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use meshgate_proto::PathRewrite;
use url::Url;

use super::edits::HeaderEdits;
use super::forwarded::is_alias;
use super::spec::TargetSpec;
use crate::handler::RequestPath;

/// The cookie that carries our own session; targets neither see nor set it.
const SESSION_COOKIE: &[u8] = b"nb_session";

/// The path and query that a target gets.
pub(crate) fn target_path(
    spec: &TargetSpec,
    path: &RequestPath,
    prefix: &str,
    query: Option<&str>,
) -> Result<PathAndQuery, http::uri::InvalidUri> {
    let mut text = spec.base_path.clone();
    match spec.options.path_rewrite {
        PathRewrite::Strip => text.push_str(&path.without_prefix(prefix)),
        PathRewrite::Preserve => text.push_str(path.as_sent()),
    }
    let queries = [spec.base_query.as_deref(), query];
    for (separator, query) in ['?', '&'].into_iter().zip(queries.into_iter().flatten()) {
        text.push(separator);
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(text))
}

/// Takes our session cookie out of `Cookie` lines and joins them into one; other cookies keep every byte.
pub(crate) fn strip_session_cookie(headers: &HeaderMap, edits: &mut HeaderEdits) {
    let lines: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.is_empty() || (lines.len() == 1 && !lines.iter().any(|line| names_session(line))) {
        return;
    }
    let kept: Vec<Vec<u8>> = lines
        .into_iter()
        .map(without_session)
        .filter(|line| !line.trim_ascii().is_empty())
        .collect();
    match HeaderValue::from_bytes(&kept.join(&b"; "[..])) {
        Ok(line) if !kept.is_empty() => edits.set.push((header::COOKIE, line)),
        Ok(_) | Err(_) => edits.remove.push(header::COOKIE),
    }
}

fn names_session(line: &[u8]) -> bool {
    line.split(|byte| *byte == b';').any(is_session)
}

/// A cookie line without our pairs. The first kept pair loses the blanks before it.
fn without_session(line: &[u8]) -> Vec<u8> {
    let kept: Vec<&[u8]> = line
        .split(|byte| *byte == b';')
        .filter(|pair| !is_session(pair))
        .collect();
    kept.join(&b";"[..]).trim_ascii_start().to_vec()
}

fn is_session(pair: &[u8]) -> bool {
    // Browsers send a cookie without a name back as its bare value, which may look like a name and value.
    let pair = pair.trim_ascii();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair);
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.trim_ascii() == SESSION_COOKIE
}

/// Takes away `Set-Cookie` lines with which a target would overwrite our session.
pub(crate) fn keep_session_cookie(headers: &HeaderMap, edits: &mut HeaderEdits) {
    let lines = headers.get_all(header::SET_COOKIE);
    if !lines.iter().any(|line| is_session(line.as_bytes())) {
        return;
    }
    edits.remove.push(header::SET_COOKIE);
    let kept = lines.iter().filter(|line| !is_session(line.as_bytes()));
    edits
        .append
        .extend(kept.map(|line| (header::SET_COOKIE, line.clone())));
}

/// Takes away the headers that carried a secret for the edge, under every name a target might read.
pub(crate) fn strip_secrets(headers: &HeaderMap, secrets: &[HeaderName], edits: &mut HeaderEdits) {
    let carriers = headers
        .keys()
        .filter(|name| secrets.iter().any(|secret| is_alias(name, secret)));
    edits.remove.extend(carriers.cloned());
}

/// Turns a redirect of the target to itself into one to the address that the client knows.
///
/// `None` leaves it as it is: it leads elsewhere, or is no absolute URL.
pub(crate) fn client_location(
    location: &str,
    spec: &TargetSpec,
    prefix: &str,
    client: &Authority,
) -> Option<String> {
    let url = Url::parse(location).ok()?;
    let leads_to_target = matches!(url.scheme(), "http" | "https")
        && url
            .host_str()
            .is_some_and(|host| host.eq_ignore_ascii_case(&spec.host))
        && url.port_or_known_default() == Some(spec.address.port())
        && url.username().is_empty()
        && url.password().is_none();
    if !leads_to_target {
        return None;
    }
    let (_, behind_scheme) = location.split_once("://")?;
    let rest = behind_scheme
        .find(['/', '?', '#'])
        .map_or("", |start| &behind_scheme[start..]);
    let rest = without_base(rest, &spec.base_path);
    let prefix = match spec.options.path_rewrite {
        PathRewrite::Strip => prefix,
        PathRewrite::Preserve => "",
    };
    let slash = if rest.starts_with('/') { "" } else { "/" };
    Some(format!("https://{client}{}{slash}{rest}", escaped(prefix)))
}

fn without_base<'a>(rest: &'a str, base: &str) -> &'a str {
    match rest.strip_prefix(base) {
        Some(inner) if inner.is_empty() || inner.starts_with(['/', '?', '#']) => inner,
        Some(_) | None => rest,
    }
}

/// A prefix in the form of addresses; prefixes are kept decoded.
fn escaped(prefix: &str) -> String {
    match RequestPath::parse(prefix) {
        Ok(path) => path.as_sent().to_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{AccountId, PathMapping, ServiceId, TargetOptions};
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::spec::TargetOwner;

    fn spec(target: &str, path_rewrite: PathRewrite) -> TargetSpec {
        let owner = TargetOwner {
            account: AccountId::new("a"),
            service: ServiceId::new("s"),
            revision: 1,
        };
        let options = TargetOptions {
            path_rewrite,
            ..TargetOptions::default()
        };
        let mapping = PathMapping {
            path: "/".into(),
            target: target.into(),
            options,
        };
        TargetSpec::parse(owner, &mapping).unwrap()
    }

    fn path_at(target: &str, rewrite: PathRewrite, path: &str, prefix: &str, query: Option<&str>) -> String {
        let path = RequestPath::parse(path).unwrap();
        target_path(&spec(target, rewrite), &path, prefix, query)
            .unwrap()
            .to_string()
    }

    #[test]
    fn prefix_is_cut_or_kept_and_the_base_comes_first() {
        use PathRewrite::{Preserve, Strip};
        for (target, rewrite, path, prefix, query, expected) in [
            ("http://o", Strip, "/", "", None, "/"),
            ("http://o", Strip, "/x", "", Some("q=1"), "/x?q=1"),
            ("http://o", Strip, "/app", "/app", None, "/"),
            ("http://o", Strip, "/app/x%2Fy", "/app", None, "/x%2Fy"),
            ("http://o", Preserve, "/app/x", "/app", None, "/app/x"),
            ("http://o/base/", Strip, "/app/x", "/app", None, "/base/x"),
            ("http://o/base", Preserve, "/app/x", "/app", None, "/base/app/x"),
            (
                "http://o/base?k=1",
                Strip,
                "/x",
                "",
                Some("q=a;b=%zz"),
                "/base/x?k=1&q=a;b=%zz",
            ),
            ("http://o/base?k=1", Strip, "/x", "", None, "/base/x?k=1"),
        ] {
            assert_eq!(path_at(target, rewrite, path, prefix, query), expected);
        }
    }

    #[test]
    fn a_nameless_cookie_sets_no_session() {
        let mut headers = HeaderMap::new();
        for line in ["a=1", "=nb_session=evil", " = nb_session=evil", "nb_session=evil"] {
            headers.append("set-cookie", HeaderValue::from_static(line));
        }
        let mut edits = HeaderEdits::default();

        keep_session_cookie(&headers, &mut edits);

        assert_eq!(edits.remove, [header::SET_COOKIE]);
        assert_eq!(
            edits.append,
            [(header::SET_COOKIE, HeaderValue::from_static("a=1"))]
        );
    }

    fn cookies(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("cookie", HeaderValue::from_static(line));
        }
        let mut edits = HeaderEdits::default();
        strip_session_cookie(&headers, &mut edits);
        if edits.remove.contains(&header::COOKIE) {
            return None;
        }
        let line = edits
            .set
            .pop()
            .map_or_else(|| headers["cookie"].clone(), |(_, line)| line);
        Some(line.to_str().unwrap().to_owned())
    }

    #[test]
    fn session_cookie_goes_and_the_others_keep_every_byte() {
        for (lines, expected) in [
            (&["a=1; b=2"][..], Some("a=1; b=2")),
            (&["nb_session=x"][..], None),
            (&["a=1; nb_session=x; b=2"][..], Some("a=1; b=2")),
            (&["nb_session=x; a=1"][..], Some("a=1")),
            (&[" nb_session =x;nb_session=y;a=1"][..], Some("a=1")),
            (
                &["j={\"k\": \"v\\\"\"};  w=a b,c; nb_session=x"][..],
                Some("j={\"k\": \"v\\\"\"};  w=a b,c"),
            ),
            (&["a=1", "nb_session=x", "b=2"][..], Some("a=1; b=2")),
            (&["nb_session_x=1"][..], Some("nb_session_x=1")),
            (&["nb_session"][..], None),
        ] {
            assert_eq!(cookies(lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn targets_cannot_set_our_session() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append(
            "set-cookie",
            HeaderValue::from_static(" nb_session=evil; Domain=test"),
        );
        let mut edits = HeaderEdits::default();

        keep_session_cookie(&headers, &mut edits);

        assert_eq!(edits.remove, [header::SET_COOKIE]);
        assert_eq!(
            edits.append,
            [(header::SET_COOKIE, HeaderValue::from_static("a=1"))]
        );
    }

    #[test]
    fn redirects_to_the_target_lead_to_the_client_address() {
        let client = Authority::from_static("app.test:8443");
        for (target, location, prefix, expected) in [
            (
                "http://o:8080",
                "http://o:8080/x?q#f",
                "",
                Some("https://app.test:8443/x?q#f"),
            ),
            (
                "http://o",
                "http://O:80/%2Fx",
                "",
                Some("https://app.test:8443/%2Fx"),
            ),
            ("http://o", "http://o", "", Some("https://app.test:8443/")),
            ("http://o", "http://o?x", "", Some("https://app.test:8443/?x")),
            (
                "http://o",
                "http://o/x",
                "/app",
                Some("https://app.test:8443/app/x"),
            ),
            (
                "http://o/base",
                "http://o/base/x",
                "/app",
                Some("https://app.test:8443/app/x"),
            ),
            (
                "http://o/base",
                "http://o/based",
                "/a b",
                Some("https://app.test:8443/a%20b/based"),
            ),
            (
                "http://[::1]:81",
                "http://[::1]:81/x",
                "",
                Some("https://app.test:8443/x"),
            ),
            ("http://o", "https://o/x", "", None),
            ("http://o", "http://elsewhere/x", "", None),
            ("http://o", "http://u:p@o/x", "", None),
            ("http://o", "/x", "", None),
            ("http://o", "//o/x", "", None),
            ("http://o", "ftp://o/x", "", None),
        ] {
            let spec = spec(target, PathRewrite::Strip);
            let rewritten = client_location(location, &spec, prefix, &client);
            assert_eq!(rewritten.as_deref(), expected, "{location}");
        }
    }

    proptest! {
        #[test]
        fn cookies_never_panic_and_never_carry_the_session(line in "(nb_session|[a-c]|[=; \"\\\\,]){0,24}") {
            let mut headers = HeaderMap::new();
            headers.append("cookie", HeaderValue::from_str(&line).unwrap());
            let mut edits = HeaderEdits::default();
            strip_session_cookie(&headers, &mut edits);
            if let Some((_, kept)) = edits.set.first() {
                prop_assert!(!names_session(kept.as_bytes()));
            }
        }

        #[test]
        fn locations_never_panic(location in "\\PC{0,60}") {
            let client = Authority::from_static("app.test");
            let spec = spec("http://o/base", PathRewrite::Strip);
            client_location(&location, &spec, "/p", &client);
            client_location(&format!("http://o{location}"), &spec, "/p", &client);
        }
    }
}
