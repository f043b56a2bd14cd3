//! Every failure that the edge answers itself, with its wording: the one place where the words stand.
//!
//! The words name the station that failed and what the reader can do; causes with addresses, ports or
//! library errors belong to the log, never to a page.

use crate::hop::Hop;

/// Why the edge answers a request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400: the request does not follow the protocol.
    MalformedRequest,
    /// 400: no usable host name in the request.
    MissingHost,
    /// 401: the service needs a login, for clients that cannot show the login page.
    LoginRequired,
    /// 403: a rule of the service refuses this client.
    Forbidden,
    /// 403: a login form posted from another site.
    CrossSiteLogin,
    /// 404: no service under this host name.
    UnknownHost,
    /// 404: the service has no target for this path.
    NoRoute,
    /// 405: a method that is not served here.
    MethodNotAllowed,
    /// 408: the request took too long to arrive.
    RequestTimeout,
    /// 413: the body is larger than allowed.
    BodyTooLarge,
    /// 414: the address is longer than allowed.
    UriTooLong,
    /// 421: the host name belongs to another service than the TLS connection.
    Misdirected,
    /// 429: too many requests or failed logins.
    TooManyRequests,
    /// 431: the header section is larger than allowed.
    HeadersTooLarge,
    /// 500: a fault of the proxy itself.
    Internal,
    /// 502: the peer that runs the service has no tunnel.
    PeerNotConnected,
    /// 502: the machine answered, but nothing listens on the service's port.
    ServiceRefused,
    /// 502: no connection to the service, or it broke.
    ConnectionFailed,
    /// 502: the service's certificate or TLS did not pass.
    UpstreamTls,
    /// 502: the service's answer does not follow the protocol.
    InvalidAnswer,
    /// 503: the service is known but its settings cannot be served.
    ServiceUnavailable,
    /// 503: the proxy has not received its configuration yet.
    NotReady,
    /// 503: the proxy is at its limit.
    Overloaded,
    /// 503: a login cannot be checked now.
    LoginUnavailable,
    /// 504: the peer did not answer in time.
    PeerTimedOut,
    /// 504: the service did not answer in time.
    ServiceTimedOut,
}

/// Everything that differs from kind to kind.
struct Wording {
    status: u16,
    code: &'static str,
    hop: Hop,
    title: &'static str,
    message: &'static str,
}

impl ErrorKind {
    /// Every kind, in the order of their status codes.
    pub const ALL: [Self; 26] = [
        Self::MalformedRequest,
        Self::MissingHost,
        Self::LoginRequired,
        Self::Forbidden,
        Self::CrossSiteLogin,
        Self::UnknownHost,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::UriTooLong,
        Self::Misdirected,
        Self::TooManyRequests,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::PeerNotConnected,
        Self::ServiceRefused,
        Self::ConnectionFailed,
        Self::UpstreamTls,
        Self::InvalidAnswer,
        Self::ServiceUnavailable,
        Self::NotReady,
        Self::Overloaded,
        Self::LoginUnavailable,
        Self::PeerTimedOut,
        Self::ServiceTimedOut,
    ];

    /// HTTP status code.
    pub fn status(self) -> u16 {
        self.wording().status
    }

    /// Stable name for programs and logs.
    pub fn code(self) -> &'static str {
        self.wording().code
    }

    /// Heading of the page.
    pub fn title(self) -> &'static str {
        self.wording().title
    }

    /// What happened and what the reader can do.
    pub fn message(self) -> &'static str {
        self.wording().message
    }

    /// Station where the request ended.
    pub fn hop(self) -> Hop {
        self.wording().hop
    }

    /// Whether asking again a little later can help.
    pub fn is_retryable(self) -> bool {
        matches!(self.status(), 408 | 429 | 500..)
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a table of words: one short arm for each kind, kept in one place"
    )]
    fn wording(self) -> Wording {
        match self {
            Self::MalformedRequest => Wording {
                status: 400,
                code: "malformed_request",
                hop: Hop::You,
                title: "This request could not be read",
                message: "What your browser or program sent does not follow the HTTP protocol, so it was not passed on.",
            },
            Self::MissingHost => Wording {
                status: 400,
                code: "missing_host",
                hop: Hop::You,
                title: "Which host do you want?",
                message: "The request names no usable host, so the proxy cannot tell which service it is for.",
            },
            Self::LoginRequired => Wording {
                status: 401,
                code: "login_required",
                hop: Hop::Proxy,
                title: "Login required",
                message: "This service asks you to log in first. Open the address in a browser to do so.",
            },
            Self::Forbidden => Wording {
                status: 403,
                code: "forbidden",
                hop: Hop::Proxy,
                title: "You cannot open this",
                message: "The access rules of this service do not let you in. If you think they should, send the request id below to the person who runs it.",
            },
            Self::CrossSiteLogin => Wording {
                status: 403,
                code: "cross_site_login",
                hop: Hop::Proxy,
                title: "This login came from another site",
                message: "For your safety a login is only taken from the service's own login page. Open the service and try again there.",
            },
            Self::UnknownHost => Wording {
                status: 404,
                code: "unknown_host",
                hop: Hop::Proxy,
                title: "No service lives here",
                message: "The proxy answers, but it publishes no service under this name. Check the address for a typing mistake.",
            },
            Self::NoRoute => Wording {
                status: 404,
                code: "no_route",
                hop: Hop::Proxy,
                title: "The path leads nowhere",
                message: "The service exists, but nothing is published under this path. Check the address, or start at the front page.",
            },
            Self::MethodNotAllowed => Wording {
                status: 405,
                code: "method_not_allowed",
                hop: Hop::Proxy,
                title: "This method is not served here",
                message: "The address exists, but it does not take this kind of request.",
            },
            Self::RequestTimeout => Wording {
                status: 408,
                code: "request_timeout",
                hop: Hop::You,
                title: "The request took too long to arrive",
                message: "The proxy waited for the rest of the request and it did not come. Check your connection and try again.",
            },
            Self::BodyTooLarge => Wording {
                status: 413,
                code: "body_too_large",
                hop: Hop::You,
                title: "That is too much to send",
                message: "The request carries more data than is accepted here, so it was not passed on.",
            },
            Self::UriTooLong => Wording {
                status: 414,
                code: "uri_too_long",
                hop: Hop::You,
                title: "The address is too long",
                message: "The address holds more characters than are accepted here, so the request was not passed on.",
            },
            Self::Misdirected => Wording {
                status: 421,
                code: "misdirected_request",
                hop: Hop::Proxy,
                title: "Right proxy, wrong connection",
                message: "The request names another service than the connection it came on. Reload the page: your browser then opens a connection of its own for this service.",
            },
            Self::TooManyRequests => Wording {
                status: 429,
                code: "too_many_requests",
                hop: Hop::Proxy,
                title: "Slow down a little",
                message: "There were too many requests or failed logins in a short time. Wait a moment, then try again.",
            },
            Self::HeadersTooLarge => Wording {
                status: 431,
                code: "headers_too_large",
                hop: Hop::You,
                title: "The request headers are too large",
                message: "The header section is larger than is accepted here. Deleting the cookies of this site often helps.",
            },
            Self::Internal => Wording {
                status: 500,
                code: "internal_error",
                hop: Hop::Proxy,
                title: "The proxy has lost its way",
                message: "Something went wrong inside the proxy. The request id below helps the person who runs it to find out what.",
            },
            Self::PeerNotConnected => Wording {
                status: 502,
                code: "peer_not_connected",
                hop: Hop::Peer,
                title: "The machine is offline",
                message: "The proxy works but found the peer not connected: the machine that runs this service has no tunnel to it right now. It may be asleep, switched off or without network.",
            },
            Self::ServiceRefused => Wording {
                status: 502,
                code: "service_refused",
                hop: Hop::Service,
                title: "The service is not running",
                message: "The machine was reached, but it refused the connection: nothing listens there. The service may be stopped or just starting.",
            },
            Self::ConnectionFailed => Wording {
                status: 502,
                code: "connection_failed",
                hop: Hop::Service,
                title: "The service cannot be reached",
                message: "The connection to the service failed or broke off before it answered.",
            },
            Self::UpstreamTls => Wording {
                status: 502,
                code: "upstream_tls",
                hop: Hop::Service,
                title: "The service could not prove who it is",
                message: "The encrypted connection from the proxy to the service failed, most often because its certificate is not trusted or has expired.",
            },
            Self::InvalidAnswer => Wording {
                status: 502,
                code: "invalid_answer",
                hop: Hop::Service,
                title: "The service gave an unreadable answer",
                message: "The service answered with something that does not follow the HTTP protocol, so it was not passed on.",
            },
            Self::ServiceUnavailable => Wording {
                status: 503,
                code: "service_unavailable",
                hop: Hop::Proxy,
                title: "This service is not ready",
                message: "The proxy knows this service but cannot serve it with its present settings. The person who runs it has been told.",
            },
            Self::NotReady => Wording {
                status: 503,
                code: "proxy_not_ready",
                hop: Hop::Proxy,
                title: "The proxy is just starting",
                message: "The proxy has not received its configuration yet. This takes a few seconds; then try again.",
            },
            Self::Overloaded => Wording {
                status: 503,
                code: "overloaded",
                hop: Hop::Proxy,
                title: "The proxy is very busy",
                message: "There is more to do than the proxy can take on right now. Wait a moment, then try again.",
            },
            Self::LoginUnavailable => Wording {
                status: 503,
                code: "login_unavailable",
                hop: Hop::Proxy,
                title: "Logging in is not possible right now",
                message: "The proxy cannot reach the server that checks logins, and it lets nobody in unchecked. Try again in a minute.",
            },
            Self::PeerTimedOut => Wording {
                status: 504,
                code: "peer_timed_out",
                hop: Hop::Peer,
                title: "The machine does not answer",
                message: "The proxy waited for the machine that runs this service, but its tunnel stayed silent.",
            },
            Self::ServiceTimedOut => Wording {
                status: 504,
                code: "service_timed_out",
                hop: Hop::Service,
                title: "The service took too long",
                message: "The machine was reached, but the service did not answer in time. It may be busy; try again in a moment.",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();

        assert_eq!(codes.len(), ErrorKind::ALL.len());
        assert!(
            ErrorKind::ALL
                .iter()
                .all(|kind| (400..600).contains(&kind.status()))
        );
        assert!(ErrorKind::ALL.is_sorted_by_key(|kind| kind.status()));
    }

    #[test]
    fn offline_peer_is_named_in_fixed_words() {
        assert!(
            ErrorKind::PeerNotConnected
                .message()
                .contains("peer not connected")
        );
        assert_eq!(ErrorKind::PeerNotConnected.status(), 502);
    }

    #[test]
    fn only_passing_troubles_invite_to_try_again() {
        assert!(ErrorKind::ServiceRefused.is_retryable());
        assert!(ErrorKind::TooManyRequests.is_retryable());
        assert!(!ErrorKind::UnknownHost.is_retryable());
        assert!(!ErrorKind::BodyTooLarge.is_retryable());
    }
}
