//! What a failure behind the edge is called in front of it: the one place where hops turn into pages.

use std::error::Error;
use std::io;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use meshgate_web::{ErrorContext, ErrorKind, ErrorPage, Nonce, Via, preferred, security_headers};

use crate::upstream::{ConnectError, DialError, NoAnswer, StalledUpload};

/// Methods that paths of ours take.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// After how many seconds to come again when the edge has too much to do.
const RETRY_SECONDS: u16 = 5;

/// The name of a failure to get a stream to a target.
pub(crate) fn of_connect(error: &ConnectError, via: Via) -> ErrorKind {
    match error {
        ConnectError::Dial(error) => of_dial(error, via),
        ConnectError::Tls(_) => ErrorKind::UpstreamTls,
        ConnectError::HandshakeTimedOut => ErrorKind::ServiceTimedOut,
        ConnectError::Http2(error) => error
            .get_io()
            .map_or(ErrorKind::InvalidAnswer, |error| of_stream(error, via)),
    }
}

fn of_dial(error: &DialError, via: Via) -> ErrorKind {
    match (error, via) {
        (DialError::PeerNotConnected, _) | (DialError::NoRoute, Via::Peer) => ErrorKind::PeerNotConnected,
        (DialError::Refused, _) => ErrorKind::ServiceRefused,
        (DialError::TimedOut, Via::Peer) => ErrorKind::PeerTimedOut,
        (DialError::TimedOut, Via::Direct) => ErrorKind::ServiceTimedOut,
        (DialError::NoRoute, Via::Direct) | (DialError::Reset | DialError::Io(_), _) => {
            ErrorKind::ConnectionFailed
        }
    }
}

/// The name of a failure of a stream that was open already.
pub(crate) fn of_stream(error: &io::Error, via: Via) -> ErrorKind {
    if error
        .get_ref()
        .is_some_and(<dyn Error + Send + Sync>::is::<NoAnswer>)
    {
        return ErrorKind::ServiceTimedOut;
    }
    if error
        .get_ref()
        .is_some_and(<dyn Error + Send + Sync>::is::<StalledUpload>)
    {
        return ErrorKind::RequestTimeout;
    }
    match (error.kind(), via) {
        (io::ErrorKind::TimedOut, Via::Peer) => ErrorKind::PeerTimedOut,
        (io::ErrorKind::TimedOut, Via::Direct) => ErrorKind::ServiceTimedOut,
        (io::ErrorKind::NotConnected, _)
        | (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable, Via::Peer) => {
            ErrorKind::PeerNotConnected
        }
        _ => ErrorKind::ConnectionFailed,
    }
}

/// What a page says about the request it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// Host as asked; empty where none was named.
    pub(crate) host: &'a str,
    /// Id under which the log knows the request.
    pub(crate) request_id: &'a str,
    /// Whether the way leads through a tunnel.
    pub(crate) via: Via,
    /// The request's headers.
    pub(crate) headers: &'a HeaderMap,
}

/// The answer for a failure, in the format that the client prefers.
pub(crate) fn answer(kind: ErrorKind, asking: Asking<'_>) -> Response<Bytes> {
    let context = ErrorContext {
        host: asking.host.to_owned(),
        request_id: asking.request_id.to_owned(),
        via: asking.via,
    };
    let accept = asking.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = preferred(accept);
    let nonce = Nonce::from_bytes(rand::random());
    let page = ErrorPage::new(kind, context);
    let mut response = Response::new(Bytes::from(page.render(format, &nonce)));
    *response.status_mut() = StatusCode::from_u16(page.status()).expect("pages have statuses of HTTP");
    let headers = response.headers_mut();
    for (name, value) in security_headers(&nonce) {
        let value = HeaderValue::from_str(&value).expect("the crate of pages checks its values");
        headers.insert(HeaderName::from_static(name), value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if kind == ErrorKind::Overloaded {
        headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    }
    if kind == ErrorKind::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    }
    response
}

/// An error with all its causes, for the log.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hop_has_its_page() {
        use ErrorKind::{ConnectionFailed, PeerNotConnected, PeerTimedOut, ServiceRefused, ServiceTimedOut};
        for (error, through_peer, direct) in [
            (DialError::PeerNotConnected, PeerNotConnected, PeerNotConnected),
            (DialError::NoRoute, PeerNotConnected, ConnectionFailed),
            (DialError::Refused, ServiceRefused, ServiceRefused),
            (DialError::TimedOut, PeerTimedOut, ServiceTimedOut),
            (DialError::Reset, ConnectionFailed, ConnectionFailed),
        ] {
            let error = ConnectError::Dial(error);
            assert_eq!(of_connect(&error, Via::Peer), through_peer, "{error}");
            assert_eq!(of_connect(&error, Via::Direct), direct, "{error}");
        }
    }

    #[test]
    fn a_silent_service_and_a_lost_peer_are_told_apart() {
        let silent = io::Error::from(NoAnswer);
        let lost = io::Error::from(io::ErrorKind::HostUnreachable);
        let unanswered = io::Error::from(io::ErrorKind::TimedOut);

        assert_eq!(of_stream(&silent, Via::Peer), ErrorKind::ServiceTimedOut);
        assert_eq!(of_stream(&lost, Via::Peer), ErrorKind::PeerNotConnected);
        assert_eq!(of_stream(&lost, Via::Direct), ErrorKind::ConnectionFailed);
        assert_eq!(of_stream(&unanswered, Via::Peer), ErrorKind::PeerTimedOut);
    }

    #[test]
    fn programs_and_browsers_get_their_format() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let asking = Asking {
            host: "app.test",
            request_id: "r1",
            via: Via::Peer,
            headers: &headers,
        };

        let response = answer(ErrorKind::PeerNotConnected, asking);

        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(
            std::str::from_utf8(response.body())
                .unwrap()
                .contains("\"request_id\":\"r1\"")
        );
    }
}
