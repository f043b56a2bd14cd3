//! Logging in at the edge: who a request is, the login page, and what becomes of a sent form.
//!
//! Everything here answers with a plain [`Response`]; nothing knows the HTTP engine. Whatever goes wrong
//! on the way lets nobody in.

mod attempts;
mod body;
mod cookie;
mod form;
mod origin;
mod page;
mod return_path;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use meshgate_proto::{AccountId, Clock, Secret, ServiceId};
use meshgate_web::{ErrorKind, LOGIN_PATH, LoginError, LoginMethod};

use crate::access::{self, Arrival, AuthSession, Challenge, Decision, Facts, Permitted};
use crate::routing::{Route, RouteState};

pub(crate) use body::{BodyError, BodySource};
pub(crate) use cookie::SESSION_COOKIE;
pub(crate) use page::error_page;

use attempts::{Attempt, Attempts};
use body::{ReadError, read_form};
use form::{LoginForm, Refused};
use return_path::ReturnPath;
use session::Sessions;

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

/// A secret that a client shows.
#[derive(Debug)]
pub(crate) enum Credential {
    /// The password of a service.
    Password(Secret<String>),
    /// The PIN of a service.
    Pin(Secret<String>),
    /// The value of a header.
    Header {
        /// Name of the header.
        name: String,
        /// Its value.
        value: Secret<String>,
    },
}

/// Why a secret could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    /// Management does not answer, or not in time.
    #[error("management cannot be reached")]
    Unreachable,
    /// Management wants fewer checks.
    #[error("management takes no more checks for now")]
    Exhausted,
    /// Management refuses to check this.
    #[error("management refused the check")]
    Refused,
}

/// Checks secrets; in earnest this is management.
#[async_trait]
pub(crate) trait Authenticator: Send + Sync + std::fmt::Debug {
    /// The session token for a right secret, `None` for a wrong one.
    async fn authenticate(
        &self,
        service: &ServiceId,
        account: &AccountId,
        credential: Credential,
    ) -> Result<Option<Secret<String>>, CheckError>;
}

/// The login of all services.
pub(crate) struct Login {
    authenticator: Arc<dyn Authenticator>,
    sessions: Sessions,
    attempts: Attempts,
    clock: Arc<dyn Clock>,
    requests: AtomicU64,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// A session that has just begun.
struct Begun {
    session: AuthSession,
    cookie: HeaderValue,
}

impl Login {
    /// A login that asks `authenticator`.
    pub(crate) fn new(authenticator: Arc<dyn Authenticator>, clock: Arc<dyn Clock>) -> Self {
        Self {
            authenticator,
            sessions: Sessions::new(),
            attempts: Attempts::new(),
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
                return Verdict::Permit {
                    permitted,
                    set_cookie: None,
                };
            }
            Decision::Deny(denial) => return Verdict::Answer(denied(denial, request)),
            Decision::Challenge(challenge) => challenge,
        };
        let (begun, set_cookie) = match self.try_headers(route, request).await {
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

    async fn submitted(
        &self,
        route: &Route,
        request: &LoginRequest<'_>,
        challenge: Option<Challenge>,
        body: &mut dyn BodySource,
    ) -> Answer {
        if !origin::is_own(request.headers, request.authority) {
            return answer(ErrorKind::CrossSiteLogin, request);
        }
        match form::check_headers(request.headers) {
            Ok(()) => {}
            Err(Refused::ContentType) => {
                return Answer {
                    response: page::wrong_form_type(),
                    mechanism: "",
                };
            }
            Err(Refused::TooLarge) => return answer(ErrorKind::BodyTooLarge, request),
        }
        let form = match read_form(body).await {
            Ok(bytes) => LoginForm::parse(&bytes),
            Err(ReadError::TooLarge) => return answer(ErrorKind::BodyTooLarge, request),
            Err(ReadError::Body(BodyError::TimedOut)) => return answer(ErrorKind::RequestTimeout, request),
            Err(ReadError::Body(BodyError::Broken)) => return answer(ErrorKind::MalformedRequest, request),
        };
        let Some(challenge) = challenge else {
            return Answer {
                response: page::see_other(form.return_to, None),
                mechanism: "",
            };
        };
        self.tried(route, request, &challenge, form).await
    }

    async fn tried(
        &self,
        route: &Route,
        request: &LoginRequest<'_>,
        challenge: &Challenge,
        form: LoginForm,
    ) -> Answer {
        let LoginForm { secret, return_to } = form;
        let Some(secret) = secret.filter(|secret| challenge.forms.contains(&secret.method)) else {
            return challenged_for(challenge, request, &return_to);
        };
        let again = |error| page::login_page(request, &challenge.forms, &return_to, Some(error));
        let method = secret.method;
        let (credential, mechanism) = match method {
            LoginMethod::Password => (Credential::Password(secret.value), "password"),
            LoginMethod::Pin => (Credential::Pin(secret.value), "pin"),
        };
        let response = match self.check(route, request, credential).await {
            Ok(begun) => page::see_other(return_to, Some(begun.cookie)),
            Err(Failed::Wrong) => again(LoginError::Wrong(method)),
            Err(Failed::TooMany(wait)) => again(too_many(wait)),
            Err(Failed::Unavailable) => error_page(ErrorKind::LoginUnavailable, request),
        };
        Answer { response, mechanism }
    }

    /// Begins a session with a secret in one of the service's headers; `None` when no such header was sent.
    async fn try_headers(&self, route: &Route, request: &LoginRequest<'_>) -> Result<Option<Begun>, Answer> {
        let sent = route.policy.schemes().headers.iter().find_map(|name| {
            let value = request.headers.get(name)?.to_str().ok()?;
            Some(Credential::Header {
                name: name.as_str().to_owned(),
                value: Secret::from(value),
            })
        });
        let Some(credential) = sent else {
            return Ok(None);
        };
        let kind = match self.check(route, request, credential).await {
            Ok(begun) => return Ok(Some(begun)),
            Err(Failed::Wrong) => ErrorKind::LoginRequired,
            Err(Failed::TooMany(_)) => ErrorKind::TooManyRequests,
            Err(Failed::Unavailable) => ErrorKind::LoginUnavailable,
        };
        Err(Answer {
            response: error_page(kind, request),
            mechanism: "header",
        })
    }

    async fn check(
        &self,
        route: &Route,
        request: &LoginRequest<'_>,
        credential: Credential,
    ) -> Result<Begun, Failed> {
        let attempt = self
            .attempts
            .begin(request.client_ip, &route.service_id, self.clock.now())
            .map_err(|wait| Failed::TooMany(Some(wait)))?;
        let checked = self
            .authenticator
            .authenticate(&route.service_id, &route.account_id, credential)
            .await;
        match checked {
            Ok(Some(token)) => self.begin(route, &token, attempt),
            Ok(None) => Err(Failed::Wrong),
            Err(error) => {
                attempt.succeeded();
                tracing::warn!(service.id = %route.service_id, error = %error, "Could not check a login");
                match error {
                    CheckError::Exhausted => Err(Failed::TooMany(None)),
                    CheckError::Unreachable | CheckError::Refused => Err(Failed::Unavailable),
                }
            }
        }
    }

    fn begin(&self, route: &Route, token: &Secret<String>, attempt: Attempt) -> Result<Begun, Failed> {
        attempt.succeeded();
        let now = self.clock.now();
        let session = self.sessions.verify(route, token.expose(), now).map_err(|error| {
            tracing::error!(service.id = %route.service_id, error = %error, "Management sent an unusable session");
            Failed::Unavailable
        })?;
        let lasts = route.policy.max_session_age().min(session.expires_at.since(now));
        let cookie = cookie::set(token.expose(), lasts).ok_or(Failed::Unavailable)?;
        Ok(Begun { session, cookie })
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
        let now = self.clock.now();
        cookie::tokens(request.headers).find_map(|token| self.sessions.verify(route, token, now).ok())
    }
}

/// Why a secret began no session.
enum Failed {
    Wrong,
    TooMany(Option<Duration>),
    Unavailable,
}

fn answer(kind: ErrorKind, request: &LoginRequest<'_>) -> Answer {
    Answer {
        response: error_page(kind, request),
        mechanism: "",
    }
}

fn denied(denial: access::Denial, request: &LoginRequest<'_>) -> Answer {
    Answer {
        response: error_page(ErrorKind::Forbidden, request),
        mechanism: denial.mechanism(),
    }
}

fn challenged(challenge: &Challenge, request: &LoginRequest<'_>) -> Answer {
    let return_to = ReturnPath::parse(request.path_and_query).unwrap_or_else(ReturnPath::root);
    challenged_for(challenge, request, &return_to)
}

/// The login page, or why there is none: a service whose only scheme has no form stays closed.
fn challenged_for(challenge: &Challenge, request: &LoginRequest<'_>, return_to: &ReturnPath) -> Answer {
    if !challenge.forms.is_empty() {
        let error = challenge.expired.then_some(LoginError::Expired);
        let response = page::login_page(request, &challenge.forms, return_to, error);
        return Answer {
            response,
            mechanism: "",
        };
    }
    let kind = if challenge.headers {
        ErrorKind::LoginRequired
    } else {
        ErrorKind::ServiceUnavailable
    };
    answer(kind, request)
}

fn too_many(wait: Option<Duration>) -> LoginError {
    let seconds = wait.map(|wait| wait.as_secs_f32().ceil().max(1.0));
    LoginError::TooManyAttempts {
        retry_after: seconds.map(|seconds| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a few seconds, never negative"
            )]
            let seconds = seconds as u32;
            seconds
        }),
    }
}

fn path<'a>(request: &LoginRequest<'a>) -> &'a str {
    request
        .path_and_query
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
}
