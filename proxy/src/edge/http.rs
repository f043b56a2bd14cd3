//! Our handler behind the engine's hooks. Thin on purpose: it translates, and decides nothing.

mod answer;
mod failure;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, StatusCode, Version, header};
use meshgate_web::{ErrorKind, Via};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use self::answer::{LINGER_TIME, edit_request, edit_response, respond};
use self::failure::{is_broken_stream, page_for};
use super::connection::{ActiveRequest, EdgeConnection};
use super::shares::{Share, Shares};
use super::stream::WRITE_TIMEOUT;
use super::switched::SwitchedRequest;
use crate::errors;
use crate::handler::{Arrived, Forward, Handler, Outcome, Record, refuse};
use crate::login::{BodyError, BodySource};
use crate::upstream::{ConnectionId, Exchange};

/// The hooks.
pub(crate) struct HttpEdge {
    handler: Arc<Handler>,
    requests: Arc<Shares>,
}

/// What is kept for one request.
pub(crate) struct RequestContext {
    record: Option<Record>,
    active: Option<ActiveRequest>,
    share: Option<Share>,
    exchange: Arc<Exchange>,
    forward: Option<Box<Forward>>,
    attempts: u32,
    /// The stream has carried requests before.
    reused: bool,
    /// Something of an answer has come from the target.
    answered: bool,
}

impl HttpEdge {
    /// Hooks around a handler, for at most `max_requests` at a time.
    pub(crate) fn new(handler: Arc<Handler>, max_requests: usize) -> Self {
        Self {
            handler,
            requests: Shares::new(max_requests),
        }
    }

    /// Takes the request through the handler; gives the answer when there is nothing to forward.
    async fn admit(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
    ) -> Result<Option<Response<Bytes>>> {
        let connection = connection(session)?;
        context.active = Some(connection.begin());
        prepare(session);
        let mut record = self.handler.begin();
        if !session.req_header().raw_path_is_utf8() {
            let answer = refuse(
                ErrorKind::MalformedRequest,
                Via::Peer,
                session.req_header(),
                &record,
            );
            context.record = Some(record);
            return Ok(Some(answer));
        }
        let headers = &session.req_header().headers;
        let client = self.handler.forwarding.client(connection.peer.ip(), headers);
        context.share = self.requests.take(Some(client));
        if context.share.is_none() {
            let answer = refuse(ErrorKind::Overloaded, Via::Peer, session.req_header(), &record);
            record.source_ip = Some(client);
            context.record = Some(record);
            return Ok(Some(answer));
        }
        let arrived = Arrived {
            server_name: &connection.server_name,
            peer: connection.peer,
        };
        let outcome = self
            .handler
            .decide(arrived, session.req_header(), &mut record)
            .await;
        let answer = match outcome {
            Outcome::Forward(forward) => {
                connection.live_under(forward.route());
                context.record = Some(record);
                context.forward = Some(forward);
                if let Some(active) = context.active.as_mut().filter(|_| expects_body(session)) {
                    active.upload_begins();
                    context.exchange.set_uploading(true);
                }
                return Ok(None);
            }
            Outcome::Answer(answer) => answer,
            Outcome::Reserved(reserved) => {
                let head = session.req_header().as_owned_parts();
                let mut body = FormBody {
                    session: &mut *session,
                };
                // In a box, as what is rare must not make every request's future large.
                let answered = self.handler.reserved(&reserved, &head, &mut body, &mut record);
                Box::pin(answered).await
            }
        };
        context.record = Some(record);
        Ok(Some(answer))
    }
}

#[async_trait]
impl ProxyHttp for HttpEdge {
    // In a box, as the engine moves it around within futures of which each holds a copy.
    type CTX = Box<RequestContext>;

    fn new_ctx(&self) -> Box<RequestContext> {
        Box::new(RequestContext {
            record: None,
            active: None,
            share: None,
            exchange: Arc::default(),
            forward: None,
            attempts: 0,
            reused: false,
            answered: false,
        })
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Box<RequestContext>) -> Result<bool> {
        match self.admit(session, context).await? {
            Some(answer) => Box::pin(respond(session, context, answer)).await,
            None => Ok(false),
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Box<RequestContext>,
    ) -> Result<Box<HttpPeer>> {
        let Some(forward) = &context.forward else {
            return Err(Error::explain(
                ErrorType::InternalError,
                "no permit for this request",
            ));
        };
        if session.is_upgrade_req() {
            context.exchange.set_upgrading();
        }
        let fresh = context.attempts > 0;
        context.attempts += 1;
        Ok(forward
            .call(session.req_header(), fresh, &context.exchange)
            .into_peer())
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        id: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        context: &mut Box<RequestContext>,
    ) -> Result<()> {
        // The engine takes streams of ours for new in any case.
        context.reused = ConnectionId::from_raw(id).is_reused();
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Box<RequestContext>,
    ) -> Result<()> {
        let Some(forward) = &context.forward else {
            return Err(Error::explain(
                ErrorType::InternalError,
                "no permit for this request",
            ));
        };
        let edits = forward.request_edits(&session.req_header().headers, &request.headers);
        edit_request(request, edits, forward.path().clone())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Box<RequestContext>,
    ) -> Result<()> {
        if let Some(record) = &mut context.record {
            record.upload += body.as_ref().map_or(0, |body| body.len() as u64);
        }
        // At the end the engine writes an empty piece as a last chunk, and then the last chunk.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        if end {
            context.exchange.set_sent();
        }
        if let Some(active) = context.active.as_mut().filter(|_| end) {
            active.upload_ends();
            context.exchange.set_uploading(false);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Box<RequestContext>,
    ) -> Result<()> {
        context.answered = true;
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches && !session.is_upgrade_req() {
            return Err(Error::explain(
                ErrorType::InvalidHTTPHeader,
                "the target switched protocols unasked",
            )
            .into_up());
        }
        if switches || !response.status.is_informational() {
            context.exchange.set_answered();
        }
        let Some(forward) = &context.forward else {
            return Ok(());
        };
        let edits = forward.response_edits(&response.headers);
        edit_response(response, edits)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Box<RequestContext>,
    ) -> Result<()> {
        if let Some(record) = context
            .record
            .as_mut()
            .filter(|_| !response.status.is_informational())
        {
            record.status = response.status.as_u16();
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(record) = &mut context.record {
                record.status = 101;
            }
            // From here on nothing says when the client's side is complete.
            if let Some(active) = &mut context.active {
                active.upload_ends();
            }
            context.exchange.set_uploading(false);
            connection(session)?.switch(&context.exchange);
        }
        // The engine would send chunks, which HTTP/1.0 does not know; the end of the connection ends the body.
        if session.req_header().version == Version::HTTP_10
            && response.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        context: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        if let Some(record) = &mut context.record {
            record.download += body.as_ref().map_or(0, |body| body.len() as u64);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        _context: &mut Box<RequestContext>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(false);
        error
    }

    /// Worth a second try is what met an idle stream that turned out to be dead: any request that the
    /// target has surely not looked at, and otherwise those that may be sent twice. The body must be at hand.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Box<RequestContext>,
        _reused: bool,
    ) -> Box<Error> {
        let stale = context.reused && !context.answered && *error.esource() == ErrorSource::Upstream;
        let untouched = *error.etype() == ErrorType::H2Error && error.retry == RetryType::ReusedOnly;
        let repeatable = session.req_header().method.is_idempotent() && is_broken_stream(&error);
        let at_hand = !session.as_ref().retry_buffer_truncated();
        error.set_retry(stale && at_hand && (untouched || repeatable));
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Box<RequestContext>,
    ) -> FailToProxy {
        let via = context
            .forward
            .as_ref()
            .map_or(Via::Peer, |forward| forward.via());
        let page = page_for(error, via);
        if let Some(record) = &context.record {
            tracing::debug!(
                request.id = %record.id(),
                service.id = %record.service(),
                error = %errors::chain(error),
                page = page.map(ErrorKind::code),
                "A request failed"
            );
        }
        // A client that went away before its answer is noted under the status that nginx made common.
        let mut code = 499;
        if session.response_written().is_none() {
            if let (Some(kind), Some(record)) = (page, &context.record) {
                code = kind.status();
                let answer = refuse(kind, via, session.req_header(), record);
                session.set_keepalive(None);
                // The client may be gone by now; that shows in the log as the error above.
                let _ = Box::pin(respond(session, context, answer)).await;
            }
            if let Some(record) = &mut context.record {
                record.status = code;
            }
        }
        FailToProxy {
            error_code: code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(
        &self,
        session: &mut Session,
        _error: Option<&Error>,
        context: &mut Box<RequestContext>,
    ) {
        if let Some(record) = context.record.take() {
            match connection(session)
                .ok()
                .filter(|connection| connection.is_leaving())
            {
                Some(connection) => connection.keep_request(SwitchedRequest {
                    handler: Arc::clone(&self.handler),
                    record,
                    active: context.active.take(),
                    share: context.share.take(),
                }),
                None => self.handler.finish(record),
            }
        }
        context.active = None;
        context.share = None;
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Box<RequestContext>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Box<RequestContext>,
        _error: &Error,
        _about: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// The connection that a request came on.
fn connection(session: &Session) -> Result<Arc<EdgeConnection>> {
    session
        .digest()
        .and_then(|digest| digest.proxy_digest.as_ref())
        .and_then(|digest| digest.user_data.as_ref())
        .and_then(|data| data.downcast_ref::<Arc<EdgeConnection>>())
        .cloned()
        .ok_or_else(|| Error::explain(ErrorType::InternalError, "the stream is none of ours"))
}

/// Hands the time limits of bodies over to our stream and keeps the engine's own features out.
fn prepare(session: &mut Session) {
    session.set_read_timeout(None);
    // Over HTTP/2 a client can stop taking one answer while the connection moves on.
    let write = session.is_http2().then_some(WRITE_TIMEOUT);
    session.set_write_timeout(write);
    session.set_total_drain_timeout(Some(LINGER_TIME));
}

fn expects_body(session: &mut Session) -> bool {
    !session.is_upgrade_req() && !session.as_mut().is_body_done()
}

/// The body of a request that we read ourselves.
struct FormBody<'a> {
    session: &'a mut Session,
}

#[async_trait]
impl BodySource for FormBody<'_> {
    async fn next(&mut self) -> std::result::Result<Option<Bytes>, BodyError> {
        self.session
            .read_request_body()
            .await
            .map_err(|_| BodyError::Broken)
    }
}
