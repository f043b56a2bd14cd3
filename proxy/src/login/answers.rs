use meshgate_web::{ErrorKind, LoginError};

use super::page::{self, error_page};
use super::return_path::ReturnPath;
use super::{Answer, LoginRequest};
use crate::access::{Challenge, Denial};

/// The page for a failure.
pub(super) fn answer(kind: ErrorKind, request: &LoginRequest<'_>) -> Answer {
    Answer {
        response: error_page(kind, request),
        mechanism: "",
    }
}

/// The page for a client that may not pass; the log learns which rule it was.
pub(super) fn denied(denial: Denial, request: &LoginRequest<'_>) -> Answer {
    Answer {
        response: error_page(ErrorKind::Forbidden, request),
        mechanism: denial.mechanism(),
    }
}

/// The login page, with the asked path as the way back.
pub(super) fn challenged(challenge: &Challenge, request: &LoginRequest<'_>) -> Answer {
    let return_to = ReturnPath::parse(request.path_and_query).unwrap_or_else(ReturnPath::root);
    challenged_for(challenge, request, &return_to)
}

/// The login page, or why there is none: a service whose only scheme has no form stays closed.
pub(super) fn challenged_for(
    challenge: &Challenge,
    request: &LoginRequest<'_>,
    return_to: &ReturnPath,
) -> Answer {
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
