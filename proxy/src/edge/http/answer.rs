//! Answers of our own, and changed header sections, in the engine's types.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use pingora_core::Result;
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

pub(super) fn edit_request(request: &mut RequestHeader, edits: HeaderEdits) -> Result<()> {
    for name in &edits.remove {
        request.remove_header(name);
    }
    for (name, value) in edits.set {
        request.insert_header(name, value)?;
    }
    for (name, value) in edits.append {
        request.append_header(name, value)?;
    }
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
