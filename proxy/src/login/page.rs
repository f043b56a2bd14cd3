//! The edge's own pages as responses.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use meshgate_web::{
    ErrorKind, Format, LOGIN_PATH, LoginError, LoginMethod, LoginPage, Nonce, Via, preferred,
    security_headers,
};

use super::LoginRequest;
use super::return_path::ReturnPath;
use crate::errors::{self, Asking};

/// The page for a failure, in the format that the client prefers.
pub(super) fn error_page(kind: ErrorKind, request: &LoginRequest<'_>) -> Response<Bytes> {
    let asking = Asking {
        host: request.authority,
        request_id: request.request_id,
        via: Via::Peer,
        headers: request.headers,
    };
    let mut response = errors::answer(kind, asking);
    if kind == ErrorKind::MethodNotAllowed {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}

/// The login page; programs that ask for no HTML get a short error of the same status.
pub(super) fn login_page(
    request: &LoginRequest<'_>,
    methods: &[LoginMethod],
    return_to: &ReturnPath,
    error: Option<LoginError>,
) -> Response<Bytes> {
    let mut response = if format(request.headers) == Format::Html {
        let page = LoginPage {
            service_name: String::new(),
            host: host(request.authority).to_owned(),
            methods: methods.to_vec(),
            form_action: LOGIN_PATH.to_owned(),
            return_to: return_to.as_str().to_owned(),
            error,
            request_id: request.request_id.to_owned(),
        };
        let nonce = nonce();
        respond(page.status(), Format::Html, &nonce, page.render_html(&nonce))
    } else {
        let kind = match error {
            None | Some(LoginError::Wrong(_) | LoginError::Expired) => ErrorKind::LoginRequired,
            Some(LoginError::TooManyAttempts { .. }) => ErrorKind::TooManyRequests,
            Some(LoginError::Unavailable) => ErrorKind::LoginUnavailable,
        };
        error_page(kind, request)
    };
    if let Some(LoginError::TooManyAttempts {
        retry_after: Some(seconds),
    }) = error
    {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Answers a form that was sent in another encoding than ours.
pub(super) fn wrong_form_type() -> Response<Bytes> {
    let text = "415 The login form must be sent as application/x-www-form-urlencoded.\n";
    respond(415, Format::Text, &nonce(), text.to_owned())
}

/// Sends the browser on with GET.
pub(super) fn see_other(to: ReturnPath, set_cookie: Option<HeaderValue>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    add_security(headers, &nonce());
    headers.insert(LOCATION, to.into_header());
    if let Some(cookie) = set_cookie {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

fn respond(status: u16, format: Format, nonce: &Nonce, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("pages have statuses of HTTP");
    let headers = response.headers_mut();
    add_security(headers, nonce);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

fn add_security(headers: &mut HeaderMap, nonce: &Nonce) {
    for (name, value) in security_headers(nonce) {
        let value = HeaderValue::from_str(&value).expect("the crate of pages checks its values");
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn format(headers: &HeaderMap) -> Format {
    preferred(headers.get(ACCEPT).and_then(|value| value.to_str().ok()))
}

fn nonce() -> Nonce {
    Nonce::from_bytes(rand::random())
}

fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
