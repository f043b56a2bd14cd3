//! The engine's way to targets: idle streams of the target first, then its dialer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType, Result};

use super::connect::{ConnectError, Fresh, connect};
use super::exchange::Exchange;
use super::h2::{Http2Session, Opened, open_stream};
use super::peer::UpstreamCall;
use super::pool::{UpstreamIo, buffered};
use super::spec::TargetScheme;
use super::stream::{ConnectionId, LoanedStream};
use super::target::Target;
use super::tls::Offer;

/// Longest wait for the head of an answer where the target's options do not say.
const HEAD_TIMEOUT: Duration = Duration::from_mins(5);

/// Gives streams to the engine. It has no state: everything lives in the targets.
#[derive(Debug)]
pub(crate) struct TargetConnector;

/// An answer to the engine: a session of our own or a stream for its HTTP/1.1 client, and whether it was
/// used before.
type Given = (Connection<Http2Session>, bool);

#[async_trait]
impl Connector for TargetConnector {
    type Session = Http2Session;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<Given> {
        let call = UpstreamCall::from_peer(peer)
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "peer carries no target"))?;
        give(call).await.map_err(connect_error)
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<Http2Session> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: Http2Session,
        _peer: &P,
        _idle_timeout: Option<Duration>,
    ) {
        drop(session);
    }
}

async fn give(call: UpstreamCall) -> Result<Given, ConnectError> {
    let UpstreamCall {
        target,
        wants,
        fresh,
        exchange,
    } = call;
    if wants == Offer::Http2 && target.spec().scheme != TargetScheme::Http {
        return match open_stream(&target, fresh).await? {
            Opened::Stream(slot) => {
                let scheme = target.spec().scheme.url_scheme();
                let session = Http2Session::new(slot, scheme, head_timeout(&target));
                let reused = session.is_reused();
                Ok((Connection::Session(session), reused))
            }
            Opened::Http1(io) => Ok(loan(buffered(io), &target, false, exchange)),
        };
    }
    let idle = if fresh { None } else { target.take_idle() };
    if let Some(io) = idle {
        return Ok(loan(io, &target, true, exchange));
    }
    match connect(&target, Offer::Http1).await? {
        Fresh::Http1(io) | Fresh::Http2(io) => Ok(loan(buffered(io), &target, false, exchange)),
    }
}

fn loan(io: UpstreamIo, target: &Arc<Target>, reused: bool, exchange: Arc<Exchange>) -> Given {
    let id = ConnectionId::next(reused);
    let stream = LoanedStream::new(io, Arc::clone(target), id, head_timeout(target), exchange);
    (Connection::Stream(Box::new(stream)), reused)
}

fn head_timeout(target: &Target) -> Duration {
    target.spec().options.request_timeout.unwrap_or(HEAD_TIMEOUT)
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "the engine takes its errors in boxes"
)]
fn connect_error(error: ConnectError) -> Box<Error> {
    Error::because(ErrorType::ConnectError, "connecting to the target", error).into_up()
}
