//! What is around every answer: request ids, cross-origin headers, and the answers of no route.

use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, LOCATION, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use meshgate_proto::{Clock as _, SystemClock, Xid};
use tokio_util::task::TaskTracker;

use super::caller::Caller;
use super::error::{Fault, RestError};
use crate::error::UseCaseError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANY: HeaderValue = HeaderValue::from_static("*");
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Stamps every answer of a route, and logs faults of ours under the same id.
pub(super) async fn wrap(request: Request, next: Next) -> Response {
    let id = Xid::generate(SystemClock.now()).to_string();
    let cross_origin = request.headers().contains_key(ORIGIN);
    let mut response = next.run(request).await;
    if let Some(Fault(cause)) = response.extensions_mut().remove::<Fault>() {
        tracing::error!(request.id = %id, error = %cause, "Request failed");
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if cross_origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    }
    response
}

/// Lets a request run to its end although the client may go away, so that no change is committed without being
/// told. A handler that panics becomes a fault of ours.
pub(super) async fn finish(Shared(tasks): Shared<TaskTracker>, request: Request, next: Next) -> Response {
    match tasks.spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => RestError::from(UseCaseError::internal(error)).into_response(),
    }
}

/// Answers a browser that asks whether it may call a route: anybody may try, with a token of his.
pub(super) async fn preflight(request: Request, next: Next) -> Response {
    let asked = request.headers();
    let method = asked.get(ACCESS_CONTROL_REQUEST_METHOD);
    let (&Method::OPTIONS, true, Some(method)) = (request.method(), asked.contains_key(ORIGIN), method)
    else {
        return next.run(request).await;
    };
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(VARY, VARY_PREFLIGHT);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// A question about a route that is no preflight.
pub(super) async fn options(_caller: Caller) -> StatusCode {
    StatusCode::NO_CONTENT
}

/// No route has HEAD.
pub(super) async fn refuse_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD {
        return not_found(request.uri().clone()).await;
    }
    next.run(request).await
}

/// No route has this path, or this verb.
pub(super) async fn not_found(uri: Uri) -> Response {
    if let Some(clean) = cleaned(&uri) {
        return (StatusCode::MOVED_PERMANENTLY, [(LOCATION, clean)]).into_response();
    }
    let text = [(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    )];
    (StatusCode::NOT_FOUND, text, "404 page not found\n").into_response()
}

/// The path without doubled slashes, if it has any. It stays on this host: it begins with one slash.
fn cleaned(uri: &Uri) -> Option<HeaderValue> {
    if !uri.path().contains("//") {
        return None;
    }
    let mut clean = String::with_capacity(uri.path().len());
    for character in uri.path().chars() {
        if character != '/' || !clean.ends_with('/') {
            clean.push(character);
        }
    }
    if let Some(query) = uri.query() {
        clean.push('?');
        clean.push_str(query);
    }
    HeaderValue::from_str(&clean).ok()
}
