//! Answers of our own, and changed header sections, in the engine's types.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::RequestContext;
use crate::upstream::HeaderEdits;

/// How long and how far the rest of a body is read that nobody wants. Closing a socket on unread bytes
/// would reset it, and the reset may overtake the answer.
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// Sends an answer of our own; always true, as the engine wants it.
pub(super) async fn respond(
    session: &mut Session,
    context: &mut RequestContext,
    answer: Response<Bytes>,
) -> Result<bool> {
    let (parts, body) = answer.into_parts();
    let mut head = ResponseHeader::from(parts);
    head.set_content_length(body.len())?;
    let headless = session.req_header().method == Method::HEAD || body.is_empty();
    if let Some(record) = &mut context.record {
        record.status = head.status.as_u16();
        record.download = if headless { 0 } else { body.len() as u64 };
    }
    session.write_response_header(Box::new(head), headless).await?;
    if headless {
        session.write_response_body(None, true).await?;
    } else {
        session.write_response_body(Some(body), true).await?;
    }
    if !session.is_http2() && !session.as_mut().is_body_done() {
        // The answer is out; whatever comes of the rest changes nothing.
        let _ = tokio::time::timeout(LINGER_TIME, linger(session)).await;
    }
    Ok(true)
}

async fn linger(session: &mut Session) {
    let mut read = 0;
    while let Ok(Some(piece)) = session.read_request_body().await {
        read += piece.len();
        if read > LINGER_BYTES {
            return;
        }
    }
}

/// Makes the client's request into the target's. Names lose the case that the client gave them, as they do over
/// HTTP/2: the engine keeps it in a second map, whose upkeep cost more than all decisions about a request.
pub(super) fn edit_request(
    request: &mut RequestHeader,
    edits: HeaderEdits,
    path: PathAndQuery,
) -> Result<()> {
    let empty = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(request, empty));
    let headers = &mut parts.headers;
    for name in &edits.remove {
        headers.remove(name);
    }
    let too_many = |_| Error::explain(ErrorType::InvalidHTTPHeader, "the request has too many headers");
    headers
        .try_reserve(edits.set.len() + edits.append.len())
        .map_err(too_many)?;
    for (name, value) in edits.set {
        headers.try_insert(name, value).map_err(too_many)?;
    }
    for (name, value) in edits.append {
        headers.try_append(name, value).map_err(too_many)?;
    }
    parts.uri = path.into();
    *request = RequestHeader::from(parts);
    Ok(())
}

pub(super) fn edit_response(response: &mut ResponseHeader, edits: HeaderEdits) -> Result<()> {
    for name in &edits.remove {
        response.remove_header(name);
    }
    for (name, value) in edits.set {
        response.insert_header(name, value)?;
    }
    for (name, value) in edits.append {
        response.append_header(name, value)?;
    }
    Ok(())
}
