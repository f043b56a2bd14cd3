//! Whether a form was sent from the service's own page.

use http::HeaderMap;
use http::header::ORIGIN;

/// Set by browsers on every request (Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// True unless the headers say that another site sent the form.
///
/// Programs that are no browsers send neither header. `Origin: null` comes from sandboxed frames and
/// redirects across sites and counts as foreign.
pub(super) fn is_own(headers: &HeaderMap, authority: &str) -> bool {
    let own_site = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    let own_origin = headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| origin.to_str().is_ok_and(|origin| names(origin, authority)));
    own_site && own_origin
}

fn names(origin: &str, authority: &str) -> bool {
    origin
        .strip_prefix("https://")
        .is_some_and(|host| without_port(host).eq_ignore_ascii_case(without_port(authority)))
}

fn without_port(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(origin: Option<&'static str>, site: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        if let Some(site) = site {
            headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
        }
        headers
    }

    #[test]
    fn the_own_page_and_programs_pass() {
        for (origin, site) in [
            (None, None),
            (Some("https://app.test:8443"), Some("same-origin")),
            (Some("https://APP.test:8443"), None),
            (None, Some("none")),
        ] {
            assert!(
                is_own(&headers(origin, site), "app.test:8443"),
                "{origin:?} {site:?}"
            );
        }
        assert!(is_own(&headers(Some("https://app.test"), None), "app.test:443"));
    }

    #[test]
    fn other_sites_and_siblings_do_not() {
        for (origin, site) in [
            (Some("https://evil.test"), None),
            (Some("https://other.app.test:8443"), None),
            (Some("https://app.test"), None),
            (Some("http://app.test:8443"), None),
            (Some("null"), None),
            (Some("https://app.test:8443"), Some("same-site")),
            (None, Some("cross-site")),
            (None, Some("")),
        ] {
            assert!(
                !is_own(&headers(origin, site), "app.test:8443"),
                "{origin:?} {site:?}"
            );
        }
    }
}
