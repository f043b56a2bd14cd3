//! Logging in at the edge: who a request is, the login page, and what becomes of a sent form.
//!
//! Everything here answers with a plain [`Response`]; nothing knows the HTTP engine. Whatever goes wrong
//! on the way lets nobody in.

mod answers;
mod attempts;
mod authenticator;
mod body;
mod cookie;
mod form;
mod origin;
mod page;
mod return_path;
mod session;
mod submit;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue, Method, Response};
use meshgate_proto::Clock;
use meshgate_web::{ErrorKind, LOGIN_PATH};
use tokio::sync::Semaphore;

use crate::access::{self, Arrival, AuthSession, Decision, Facts, Permitted};
use crate::routing::{Route, RouteState};

pub(crate) use authenticator::{Authenticator, CheckError, Credential, Shown};
pub(crate) use body::{BodyError, BodySource};

use answers::{answer, challenged, denied};
use attempts::Attempts;
use return_path::ReturnPath;
use session::Sessions;

/// Secrets that management is asked about at once. It spends memory on each, and shares the connection with
/// everything else; what is beyond is told to wait.
const CHECKS: usize = 32;

/// The head of a request, as login needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginRequest<'a> {
    /// Method.
    pub(crate) method: &'a Method,
    /// Path and query as sent.
    pub(crate) path_and_query: &'a str,
    /// Host header or `:authority`, with the port if there is one.
    pub(crate) authority: &'a str,
    /// All headers.
    pub(crate) headers: &'a HeaderMap,
    /// The client, as the edge believes it.
    pub(crate) client_ip: IpAddr,
    /// Id under which the log knows the request.
    pub(crate) request_id: &'a str,
}

/// An answer of the edge itself.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Ready to be sent; the body is left out for HEAD.
    pub(crate) response: Response<Bytes>,
    /// Word for the access log: the scheme that was tried or the rule that denied; empty when neither.
    pub(crate) mechanism: &'static str,
}

/// What becomes of a request to a service.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may go on.
    Permit {
        /// Opens the upstream.
        permitted: Permitted,
        /// Goes with the answer when a header secret began a session.
        set_cookie: Option<HeaderValue>,
    },
    /// The edge answers.
    Answer(Answer),
}

/// The login of all services.
pub(crate) struct Login {
    authenticator: Arc<dyn Authenticator>,
    sessions: Sessions,
    attempts: Attempts,
    checks: Semaphore,
    clock: Arc<dyn Clock>,
    requests: AtomicU64,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Login {
    /// A login that asks `authenticator`.
    pub(crate) fn new(authenticator: Arc<dyn Authenticator>, clock: Arc<dyn Clock>) -> Self {
        Self {
            authenticator,
            sessions: Sessions::new(),
            attempts: Attempts::new(),
            checks: Semaphore::new(CHECKS),
            clock,
            requests: AtomicU64::new(0),
        }
    }

    /// How many requests were decided or answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Decides on a request to a service: it may go on, or the edge answers.
    pub(crate) async fn authorize(&self, route: &Route, request: &LoginRequest<'_>) -> Verdict {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let RouteState::Unavailable(_) = route.state {
            return Verdict::Answer(answer(ErrorKind::ServiceUnavailable, request));
        }
        let mut facts = self.facts(request);
        facts.session = self.session(route, request);
        let challenge = match access::decide(&route.policy, &facts) {
            Decision::Permit(permitted) => {
                if is_foreign_upgrade(route, request) {
                    return Verdict::Answer(answer(ErrorKind::Forbidden, request));
                }
                return Verdict::Permit {
                    permitted,
                    set_cookie: None,
                };
            }
            Decision::Deny(denial) => return Verdict::Answer(denied(denial, request)),
            Decision::Challenge(challenge) => challenge,
        };
        let (begun, set_cookie) = match Box::pin(self.try_headers(route, request)).await {
            Ok(Some(begun)) => (begun.session, begun.cookie),
            Ok(None) => return Verdict::Answer(challenged(&challenge, request)),
            Err(answer) => return Verdict::Answer(answer),
        };
        facts.session = Some(begun);
        facts.now = self.clock.now();
        match access::decide(&route.policy, &facts) {
            Decision::Permit(permitted) => Verdict::Permit {
                permitted,
                set_cookie: Some(set_cookie),
            },
            Decision::Challenge(_) | Decision::Deny(_) => Verdict::Answer(challenged(&challenge, request)),
        }
    }

    /// Answers a request under the reserved prefix. None of them reaches an application.
    pub(crate) async fn handle(
        &self,
        route: &Route,
        request: &LoginRequest<'_>,
        body: &mut dyn BodySource,
    ) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let RouteState::Unavailable(_) = route.state {
            return answer(ErrorKind::ServiceUnavailable, request);
        }
        let mut facts = self.facts(request);
        if *request.method != Method::POST {
            facts.session = self.session(route, request);
        }
        let challenge = match access::decide(&route.policy, &facts) {
            Decision::Deny(denial) => return denied(denial, request),
            Decision::Permit(_) => None,
            Decision::Challenge(challenge) => Some(challenge),
        };
        if path(request) != LOGIN_PATH {
            return answer(ErrorKind::NoRoute, request);
        }
        match (request.method, challenge) {
            (&Method::POST, challenge) => self.submitted(route, request, challenge, body).await,
            (&Method::GET | &Method::HEAD, Some(challenge)) => challenged(&challenge, request),
            (&Method::GET | &Method::HEAD, None) => Answer {
                response: page::see_other(ReturnPath::root(), None),
                mechanism: "",
            },
            _ => answer(ErrorKind::MethodNotAllowed, request),
        }
    }

    fn facts(&self, request: &LoginRequest<'_>) -> Facts {
        Facts {
            now: self.clock.now(),
            client_ip: request.client_ip,
            session: None,
            arrival: Arrival::Public,
        }
    }

    /// The first session among the request's cookies that is good for this service.
    fn session(&self, route: &Route, request: &LoginRequest<'_>) -> Option<AuthSession> {
        if !route.policy.schemes().any() {
            return None;
        }
        self.sessions
            .find(route, cookie::tokens(request.headers), self.clock.now())
    }
}

/// True when another site's page opens a WebSocket with the cookie of a guarded service: browsers send it along
/// and ask nobody. Programs that are no browsers name no origin.
fn is_foreign_upgrade(route: &Route, request: &LoginRequest<'_>) -> bool {
    route.policy.schemes().any()
        && request.headers.contains_key(UPGRADE)
        && !origin::is_own(request.headers, request.authority)
}

fn path<'a>(request: &LoginRequest<'a>) -> &'a str {
    request
        .path_and_query
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
}
