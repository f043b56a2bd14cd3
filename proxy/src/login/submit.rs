//! From a shown secret to a session: a form that was sent, or a header.

use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use meshgate_proto::Secret;
use meshgate_web::{ErrorKind, LoginError, LoginMethod};

use super::answers::{answer, challenged_for};
use super::attempts::Attempt;
use super::authenticator::{CheckError, Credential, Shown};
use super::body::{BodyError, BodySource, ReadError, read_form};
use super::form::{self, LoginForm, Refused};
use super::page::{self, error_page};
use super::{Answer, Login, LoginRequest, cookie, origin};
use crate::access::{AuthSession, Challenge};
use crate::routing::Route;

/// A session that has just begun.
pub(super) struct Begun {
    /// What it proves.
    pub(super) session: AuthSession,
    /// Carries it.
    pub(super) cookie: HeaderValue,
}

/// Why a secret began no session.
enum Failed {
    Wrong,
    TooMany(Option<Duration>),
    Unavailable,
}

impl Login {
    /// Takes a sent form. Without a challenge there is nothing to prove, and the way back is all that counts.
    pub(super) async fn submitted(
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
            Err(ReadError::Body(BodyError::TimedOut)) => return too_slow(request),
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
        let (shown, mechanism) = match method {
            LoginMethod::Password => (Shown::Password(secret.value), "password"),
            LoginMethod::Pin => (Shown::Pin(secret.value), "pin"),
        };
        let response = match self.check(route, request, shown).await {
            Ok(begun) => page::see_other(return_to, Some(begun.cookie)),
            Err(Failed::Wrong) => again(LoginError::Wrong(method)),
            Err(Failed::TooMany(wait)) => again(too_many(wait)),
            Err(Failed::Unavailable) => error_page(ErrorKind::LoginUnavailable, request),
        };
        Answer { response, mechanism }
    }

    /// Begins a session with a secret in one of the service's headers; `None` when no such header was sent.
    pub(super) async fn try_headers(
        &self,
        route: &Route,
        request: &LoginRequest<'_>,
    ) -> Result<Option<Begun>, Answer> {
        let sent = route.policy.schemes().headers.iter().find_map(|name| {
            let value = request.headers.get(name)?.to_str().ok()?;
            Some(Shown::Header {
                name: name.as_str().to_owned(),
                value: Secret::from(value),
            })
        });
        let Some(shown) = sent else {
            return Ok(None);
        };
        let kind = match self.check(route, request, shown).await {
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

    async fn check(&self, route: &Route, request: &LoginRequest<'_>, shown: Shown) -> Result<Begun, Failed> {
        let attempt = self
            .attempts
            .begin(request.client_ip, &route.service_id, self.clock.now())
            .map_err(|wait| Failed::TooMany(Some(wait)))?;
        let Ok(_turn) = self.checks.try_acquire() else {
            attempt.succeeded();
            return Err(Failed::TooMany(None));
        };
        let credential = Credential {
            client_ip: request.client_ip,
            shown,
        };
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
}

/// Nobody waits for the rest of the body, so the connection ends with the answer.
fn too_slow(request: &LoginRequest<'_>) -> Answer {
    let mut answer = answer(ErrorKind::RequestTimeout, request);
    answer
        .response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
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
