//! The first look at a request: what is not well formed never comes near a route or a target.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use meshgate_proto::DomainName;
use meshgate_web::ErrorKind;

use super::path::RequestPath;

/// Largest header section, request line included.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Longest path with query.
const MAX_TARGET: usize = 32 * 1024;

/// What a well-formed request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Host and port as the client named them.
    pub(crate) authority: Authority,
    /// Host alone, as routes know it; absent when no route can have it, such as for an IPv6 address.
    pub(crate) host: Option<DomainName>,
    /// Path.
    pub(crate) path: RequestPath,
    /// Query as sent.
    pub(crate) query: Option<String>,
}

/// Checks the form of a request and takes out what is asked for.
pub(crate) fn inspect(head: &Parts) -> Result<Asked, ErrorKind> {
    if head_size(head) > MAX_HEAD {
        return Err(ErrorKind::HeadersTooLarge);
    }
    if is_refused(&head.method) {
        return Err(ErrorKind::MethodNotAllowed);
    }
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > MAX_TARGET {
        return Err(ErrorKind::UriTooLong);
    }
    let authority = authority(head)?;
    let path = RequestPath::parse(head.uri.path()).map_err(|_| ErrorKind::MalformedRequest)?;
    Ok(Asked {
        host: DomainName::new(authority.host()).ok(),
        authority,
        path,
        query: head.uri.query().map(str::to_owned),
    })
}

/// Methods that a proxy must not pass on: tunnels, and echoes of credentials.
fn is_refused(method: &Method) -> bool {
    matches!(*method, Method::CONNECT | Method::TRACE) || method.as_str().eq_ignore_ascii_case("TRACK")
}

fn head_size(head: &Parts) -> usize {
    let line = head.method.as_str().len()
        + head
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
    let fields = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    line + fields.sum::<usize>()
}

/// The one host of a request: from `Host`, and in HTTP/2 from `:authority`.
fn authority(head: &Parts) -> Result<Authority, ErrorKind> {
    let named = host_header(&head.headers)?;
    let secure = |scheme: &http::uri::Scheme| *scheme == http::uri::Scheme::HTTPS;
    if head.version == Version::HTTP_2 && !head.uri.scheme().is_none_or(secure) {
        return Err(ErrorKind::MalformedRequest);
    }
    let pseudo = head.uri.authority().filter(|_| head.version == Version::HTTP_2);
    let authority = match (named, pseudo) {
        (Some(named), Some(pseudo)) if *pseudo != named => return Err(ErrorKind::MalformedRequest),
        (Some(named), _) => named,
        (None, Some(pseudo)) => pseudo.clone(),
        (None, None) => return Err(ErrorKind::MissingHost),
    };
    let text = authority.as_str();
    let port_is_fine = match text.strip_prefix(authority.host()) {
        Some("") => true,
        Some(port) => authority.port_u16().is_some_and(|port| port != 0) && !port.contains('+'),
        None => false,
    };
    if port_is_fine && !text.contains('@') {
        Ok(authority)
    } else {
        Err(ErrorKind::MalformedRequest)
    }
}

fn host_header(headers: &HeaderMap) -> Result<Option<Authority>, ErrorKind> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        return Ok(None);
    };
    if hosts.next().is_some() {
        return Err(ErrorKind::MalformedRequest);
    }
    parse_host(host).map(Some)
}

fn parse_host(host: &HeaderValue) -> Result<Authority, ErrorKind> {
    let text = host.to_str().map_err(|_| ErrorKind::MalformedRequest)?;
    if text.is_empty() {
        return Err(ErrorKind::MissingHost);
    }
    text.parse().map_err(|_| ErrorKind::MalformedRequest)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn head(host: &[&str], target: &str) -> Parts {
        let mut request = Request::get(target);
        for host in host {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn takes_host_path_and_query() {
        let asked = inspect(&head(&["App.Test.:8443"], "/a/../b?x=1&y=%zz")).unwrap();

        assert_eq!(asked.host.unwrap().as_str(), "app.test");
        assert_eq!(asked.authority.as_str(), "App.Test.:8443");
        assert_eq!(asked.path.as_sent(), "/b");
        assert_eq!(asked.query.as_deref(), Some("x=1&y=%zz"));
    }

    #[test]
    fn refuses_missing_double_and_broken_hosts() {
        for (hosts, expected) in [
            (&[][..], ErrorKind::MissingHost),
            (&[""][..], ErrorKind::MissingHost),
            (&["a.test", "a.test"][..], ErrorKind::MalformedRequest),
            (&["a.test", "b.test"][..], ErrorKind::MalformedRequest),
            (&["a.test:junk"][..], ErrorKind::MalformedRequest),
            (&["a.test:"][..], ErrorKind::MalformedRequest),
            (&["a.test:0"][..], ErrorKind::MalformedRequest),
            (&["a.test:70000"][..], ErrorKind::MalformedRequest),
            (&["user@a.test"][..], ErrorKind::MalformedRequest),
            (&["a test"][..], ErrorKind::MalformedRequest),
            (&["a.test/x"][..], ErrorKind::MalformedRequest),
        ] {
            assert_eq!(inspect(&head(hosts, "/")), Err(expected), "{hosts:?}");
        }
    }

    #[test]
    fn http2_names_the_host_in_its_authority() {
        let mut head = head(&[], "https://a.test/x");
        head.version = Version::HTTP_2;

        let asked = inspect(&head).unwrap();
        head.headers.insert("host", HeaderValue::from_static("b.test"));
        let twofold = inspect(&head);

        assert_eq!(asked.host.unwrap().as_str(), "a.test");
        assert_eq!(twofold, Err(ErrorKind::MalformedRequest));
    }

    #[test]
    fn http2_requests_come_by_https() {
        for target in ["http://a.test/x", "file://a.test/x"] {
            let mut head = head(&[], target);
            head.version = Version::HTTP_2;
            assert_eq!(inspect(&head), Err(ErrorKind::MalformedRequest), "{target}");
        }
    }

    #[test]
    fn hosts_that_no_route_can_have_are_well_formed() {
        assert_eq!(inspect(&head(&["[::1]:8443"], "/")).unwrap().host, None);
    }

    #[test]
    fn refuses_tunnels_echoes_and_too_much() {
        for method in ["CONNECT", "TRACE", "TRACK"] {
            let mut head = head(&["a.test"], "/");
            head.method = method.parse().unwrap();
            assert_eq!(inspect(&head), Err(ErrorKind::MethodNotAllowed), "{method}");
        }

        let mut large = head(&["a.test"], "/");
        large
            .headers
            .insert("x-large", HeaderValue::from_str(&"x".repeat(70_000)).unwrap());
        assert_eq!(inspect(&large), Err(ErrorKind::HeadersTooLarge));
        let long = head(&["a.test"], &format!("/{}", "x".repeat(MAX_TARGET)));
        assert_eq!(inspect(&long), Err(ErrorKind::UriTooLong));
    }

    proptest! {
        #[test]
        fn never_panics(host in "[ -~]{0,40}", path in "/[!-~]{0,40}") {
            let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
            let mut head = head(&[], "/");
            head.uri = uri;
            head.headers.insert("host", HeaderValue::from_str(&host).unwrap());
            let _ = inspect(&head);
        }
    }
}
