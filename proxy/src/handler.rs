//! What becomes of a request, on our own types: look, route, decide, choose. No engine in sight.

mod client;
mod forward;
mod gate;
mod path;
mod record;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use meshgate_proto::{AccessLogId, Clock, DomainName, Xid};
use meshgate_web::{ErrorKind, RESERVED_PREFIX, Via};

pub(crate) use client::{Announcer, ForwardedScheme, Forwarding, ProxyProtocol};
pub(crate) use forward::Forward;
pub(crate) use gate::MAX_HEAD;
pub(crate) use path::RequestPath;
pub(crate) use record::Record;

use crate::access_log::AccessLogSink;
use crate::errors::{self, Asking};
use crate::login::{BodySource, Login, LoginRequest, Verdict};
use crate::routing::{Route, Snapshot};
use gate::Asked;

/// Decides on requests. Shared by all connections.
pub(crate) struct Handler {
    /// What requests are matched with.
    pub(crate) routes: Arc<ArcSwap<Snapshot>>,
    /// Who may pass.
    pub(crate) login: Arc<Login>,
    /// Where finished requests are told.
    pub(crate) log: AccessLogSink,
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// Whose word on the client counts, and what targets are told.
    pub(crate) forwarding: Forwarding,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    /// The host that the connection was opened for.
    pub(crate) server_name: &'a DomainName,
    /// The other end of the socket, or the client that it speaks for.
    pub(crate) peer: SocketAddr,
}

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Answer it.
    Answer(Response<Bytes>),
    /// Hand it to a target.
    Forward(Box<Forward>),
    /// Read its body and call [`Handler::reserved`].
    Reserved(Box<Reserved>),
}

/// A request for a path of our own.
#[derive(Debug)]
pub(crate) struct Reserved {
    route: Arc<Route>,
    asked: Asked,
}

impl Handler {
    /// The notes on a request that has just begun.
    pub(crate) fn begin(&self) -> Record {
        let now = self.clock.now();
        Record::new(AccessLogId::from(Xid::generate(now)))
    }

    /// Decides on a request by its head.
    pub(crate) async fn decide(&self, arrived: Arrived<'_>, head: &Parts, record: &mut Record) -> Outcome {
        record.note_head(head);
        record.source_ip = Some(self.forwarding.client(arrived.peer.ip(), &head.headers));
        let asked = match gate::inspect(head) {
            Ok(asked) => asked,
            Err(kind) => return Outcome::Answer(refuse(kind, Via::Peer, head, record)),
        };
        record.note_asked(&asked.authority, &asked.path);
        let route = match self.route(arrived.server_name, asked.host.as_ref()) {
            Ok(route) => route,
            Err(kind) => return Outcome::Answer(refuse(kind, Via::Peer, head, record)),
        };
        record.note_route(&route);
        if is_reserved(&asked.path) {
            return Outcome::Reserved(Box::new(Reserved { route, asked }));
        }
        self.authorize(route, asked, head, record).await
    }

    /// Answers a request for a path of our own.
    pub(crate) async fn reserved(
        &self,
        reserved: &Reserved,
        head: &Parts,
        body: &mut dyn BodySource,
        record: &mut Record,
    ) -> Response<Bytes> {
        let target = target(&reserved.asked);
        let request = login_request(&reserved.asked, &target, head, record);
        let answer = self.login.handle(&reserved.route, &request, body).await;
        answer.mechanism.clone_into(&mut record.mechanism);
        if !answer.response.status().is_redirection() && !answer.response.status().is_success() {
            record.note_turned_away();
        }
        answer.response
    }

    /// Tells the access log about a request that has ended.
    pub(crate) fn finish(&self, record: Record) {
        if let Some(line) = record.into_line(self.clock.now()) {
            self.log.push(line);
        }
    }

    /// The route of a host. A connection serves the one service that it was opened for.
    fn route(&self, server_name: &DomainName, host: Option<&DomainName>) -> Result<Arc<Route>, ErrorKind> {
        let routes = self.routes.load();
        let Some(route) = host.and_then(|host| routes.host(host.as_str())) else {
            let empty = routes.revision() == 0;
            return Err(if empty {
                ErrorKind::NotReady
            } else {
                ErrorKind::UnknownHost
            });
        };
        let opened_for = routes.host(server_name.as_str());
        if opened_for.is_none_or(|opened_for| opened_for.service_id != route.service_id) {
            return Err(ErrorKind::Misdirected);
        }
        Ok(Arc::clone(route))
    }

    async fn authorize(&self, route: Arc<Route>, asked: Asked, head: &Parts, record: &mut Record) -> Outcome {
        let target = target(&asked);
        let verdict = {
            let request = login_request(&asked, &target, head, record);
            self.login.authorize(&route, &request).await
        };
        let (permitted, set_cookie) = match verdict {
            Verdict::Permit {
                permitted,
                set_cookie,
            } => (permitted, set_cookie),
            Verdict::Answer(answer) => {
                answer.mechanism.clone_into(&mut record.mechanism);
                record.note_turned_away();
                return Outcome::Answer(answer.response);
            }
        };
        record.note_permit(&permitted);
        match Forward::select(route, permitted, asked, set_cookie, self.client_view(record)) {
            Ok(forward) => {
                record.note_target(forward.target());
                Outcome::Forward(Box::new(forward))
            }
            Err(kind) => Outcome::Answer(refuse(kind, Via::Peer, head, record)),
        }
    }

    fn client_view(&self, record: &Record) -> client::ClientView {
        client::ClientView {
            address: record.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            scheme: self.forwarding.scheme,
        }
    }
}

/// The page for a request that came no further than the edge.
pub(crate) fn refuse(kind: ErrorKind, via: Via, head: &Parts, record: &Record) -> Response<Bytes> {
    let asking = Asking {
        host: record.host(),
        request_id: record.id().as_str(),
        via,
        headers: &head.headers,
    };
    errors::answer(kind, asking)
}

fn is_reserved(path: &RequestPath) -> bool {
    let path = path.for_matching();
    path.starts_with(RESERVED_PREFIX) || RESERVED_PREFIX.strip_suffix('/') == Some(path)
}

/// Path and query as they were asked, in normal form.
fn target(asked: &Asked) -> String {
    match &asked.query {
        Some(query) => format!("{}?{query}", asked.path.as_sent()),
        None => asked.path.as_sent().to_owned(),
    }
}

fn login_request<'a>(
    asked: &'a Asked,
    target: &'a str,
    head: &'a Parts,
    record: &'a Record,
) -> LoginRequest<'a> {
    LoginRequest {
        method: &head.method,
        path_and_query: target,
        authority: asked.authority.as_str(),
        headers: &head.headers,
        client_ip: record.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        request_id: record.id().as_str(),
    }
}
