//! One request over a shared HTTP/2 connection, in the shape that the engine drives.

use std::future::Future;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::Stream;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Uri, Version, header};
use parking_lot::Mutex;
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_core::{Error, ErrorType, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::timeout;

use super::connection::StreamSlot;
use crate::upstream::connect::NoAnswer;
use crate::upstream::stream::ConnectionId;

/// Headers that have no place in HTTP/2 (RFC 9113, 8.2.2).
const CONNECTION_HEADERS: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// A request on its way, or its answer.
pub(crate) struct Http2Session {
    slot: StreamSlot,
    id: ConnectionId,
    head_timeout: Duration,
    scheme: &'static str,
    answer: Option<Mutex<ResponseFuture>>,
    request_body: Option<Http2Body>,
    response_body: Option<RecvStream>,
    head: Option<ResponseHeader>,
    digest: Digest,
    done: bool,
}

impl Http2Session {
    /// A session that has sent nothing yet.
    pub(crate) fn new(slot: StreamSlot, scheme: &'static str, head_timeout: Duration) -> Self {
        Self {
            id: ConnectionId::next(slot.reused),
            slot,
            head_timeout,
            scheme,
            answer: None,
            request_body: None,
            response_body: None,
            head: None,
            digest: Digest::default(),
            done: false,
        }
    }

    /// True when the connection has carried requests before.
    pub(crate) fn is_reused(&self) -> bool {
        self.slot.reused
    }
}

#[async_trait]
impl Session for Http2Session {
    async fn write_request_header(&mut self, request: Box<RequestHeader>, end: bool) -> Result<()> {
        let mut parts = request.as_owned_parts();
        for name in &CONNECTION_HEADERS {
            parts.headers.remove(name);
        }
        parts.uri = absolute(self.scheme, &mut parts.headers, &parts.uri)?;
        parts.version = Version::HTTP_2;
        let sent = self
            .slot
            .send
            .send_request(http::Request::from_parts(parts, ()), end);
        let (answer, body) = sent.map_err(upstream_error)?;
        self.answer = Some(Mutex::new(answer));
        self.request_body = Some(Http2Body {
            stream: body,
            ended: end,
        });
        Ok(())
    }

    async fn write_request_body(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        let Some(body) = &mut self.request_body else {
            return Ok(());
        };
        body.write_all_buf(&mut data).await?;
        if end { body.finish().await } else { Ok(()) }
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        match &mut self.request_body {
            Some(body) => body.finish().await,
            None => Ok(()),
        }
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn read_response_header(&mut self) -> Result<()> {
        let Some(answer) = self.answer.take() else {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "no request was sent").into_up());
        };
        let response = head_within(self.head_timeout, answer.into_inner()).await?;
        let (parts, body) = response.into_parts();
        self.done = body.is_end_stream();
        self.response_body = Some(body);
        self.head = Some(parts.into());
        Ok(())
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        let Some(body) = &mut self.response_body else {
            return Ok(None);
        };
        let Some(data) = body.data().await.transpose().map_err(upstream_error)? else {
            return Ok(None);
        };
        body.flow_control()
            .release_capacity(data.len())
            .map_err(upstream_error)?;
        Ok(Some(data))
    }

    fn response_finished(&self) -> bool {
        self.done
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        if let Some(body) = &mut self.request_body {
            body.stream.send_reset(h2::Reason::CANCEL);
        }
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.head.as_ref()
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        match &mut self.response_body {
            Some(body) => body.trailers().await.map_err(upstream_error),
            None => Ok(None),
        }
    }

    fn fd(&self) -> UniqueIDType {
        self.id.as_raw()
    }

    async fn check_response_end_or_error(&mut self, _headers: bool) -> Result<bool> {
        self.done = self.response_body.as_ref().is_some_and(RecvStream::is_end_stream);
        Ok(self.done)
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        self.request_body
            .take()
            .map(|body| Box::new(body) as Box<dyn BodyWrite>)
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(futures::stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}

/// The body of a request under way. Dropped before its end, it resets the stream.
struct Http2Body {
    stream: SendStream<Bytes>,
    ended: bool,
}

#[async_trait]
impl BodyWrite for Http2Body {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        while data.has_remaining() {
            self.stream.reserve_capacity(data.len());
            let granted = std::future::poll_fn(|cx| self.stream.poll_capacity(cx)).await;
            let Some(granted) = granted else {
                return Err(Error::explain(ErrorType::WriteError, "the target closed the stream").into_up());
            };
            let size = granted.map_err(upstream_error)?.min(data.len());
            self.stream
                .send_data(data.split_to(size), false)
                .map_err(upstream_error)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.stream.send_data(Bytes::new(), true).map_err(upstream_error)
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        if !self.ended {
            self.stream.send_reset(h2::Reason::CANCEL);
        }
    }
}

/// Moves the host from its header into the address, where HTTP/2 has it.
fn absolute(scheme: &str, headers: &mut HeaderMap, uri: &Uri) -> Result<Uri> {
    let host = headers.remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok());
    let authority = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    Uri::builder()
        .scheme(scheme)
        .authority(authority.unwrap_or_default())
        .path_and_query(path)
        .build()
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "upstream address", error))
}

async fn head_within<T>(wait: Duration, head: impl Future<Output = Result<T, h2::Error>>) -> Result<T> {
    let answer = timeout(wait, head).await.map_err(|_| {
        let cause = io::Error::from(NoAnswer);
        Error::because(ErrorType::ReadTimedout, "waiting for the target's answer", cause).into_up()
    })?;
    answer.map_err(upstream_error)
}

/// A stream that the target never looked at may be sent again on another connection.
#[expect(
    clippy::unnecessary_box_returns,
    reason = "the engine takes its errors in boxes"
)]
fn upstream_error(error: h2::Error) -> Box<Error> {
    let untouched = error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let mut error = Error::because(ErrorType::H2Error, "HTTP/2 to the target", error).into_up();
    error.retry = if untouched {
        RetryType::ReusedOnly
    } else {
        RetryType::Decided(false)
    };
    error
}
