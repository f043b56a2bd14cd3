//! A permitted request with its target: what is sent there, and what of the answer is changed.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use meshgate_web::{ErrorKind, Via};

use super::client::ClientView;
use super::gate::Asked;
use crate::access::{Identity, Permitted};
use crate::routing::Route;
use crate::upstream::{
    Client, Exchange, HOP_BY_HOP, HeaderEdits, Offer, Target, TargetScheme, UpstreamCall, client_location,
    describe, keep_session_cookie, nominated, strip_secrets, strip_session_cookie, target_path,
};

/// What targets say about their own connections.
const KEEP_ALIVE: [HeaderName; 2] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request on its way to a target. The permit inside is the proof that it may go there.
#[derive(Debug)]
pub(crate) struct Forward {
    route: Arc<Route>,
    target: Arc<Target>,
    permitted: Permitted,
    prefix: String,
    path: PathAndQuery,
    authority: Authority,
    client: ClientView,
    set_cookie: Option<HeaderValue>,
}

impl Forward {
    /// Chooses the target of a permitted request.
    pub(crate) fn select(
        route: Arc<Route>,
        permitted: Permitted,
        asked: Asked,
        set_cookie: Option<HeaderValue>,
        client: ClientView,
    ) -> Result<Self, ErrorKind> {
        if *permitted.service_id() != route.service_id {
            return Err(ErrorKind::Internal);
        }
        let (target, prefix) = route
            .target(asked.path.for_matching())
            .ok_or(ErrorKind::NoRoute)?;
        let path = target_path(target.spec(), &asked.path, prefix, asked.query.as_deref())
            .map_err(|_| ErrorKind::MalformedRequest)?;
        Ok(Self {
            target: Arc::clone(target),
            prefix: prefix.to_owned(),
            path,
            authority: asked.authority,
            permitted,
            client,
            set_cookie,
            route,
        })
    }

    /// The route it goes by.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The target it goes to.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Whether the way leads through a tunnel.
    pub(crate) fn via(&self) -> Via {
        if self.target.spec().options.direct_upstream {
            Via::Direct
        } else {
            Via::Peer
        }
    }

    /// One attempt to send it; `fresh` when an idle stream has just failed.
    pub(crate) fn call(&self, head: &Parts, fresh: bool, exchange: &Arc<Exchange>) -> UpstreamCall {
        let upgrades = head.headers.contains_key(header::UPGRADE);
        let wants = match self.target.spec().scheme {
            TargetScheme::H2c if !upgrades => Offer::Http2,
            TargetScheme::Https if !upgrades && is_grpc(&head.headers) => Offer::Http2,
            TargetScheme::Http | TargetScheme::Https | TargetScheme::H2c => Offer::Http1,
        };
        UpstreamCall {
            target: Arc::clone(&self.target),
            wants,
            fresh,
            exchange: Arc::clone(exchange),
        }
    }

    /// Path and query for the target.
    pub(crate) fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// The changes that make the client's headers into those for the target.
    ///
    /// `sent` are the headers as the engine would send them; `original` those of the client, whose
    /// `Connection` lines the engine may have cut already.
    pub(crate) fn request_edits(&self, original: &HeaderMap, sent: &HeaderMap) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        // What is left of an upgrade was put there by the engine for the target.
        if !sent.contains_key(header::UPGRADE) {
            edits.remove.extend(nominated(original));
            let hop_by_hop = sent.keys().filter(|name| HOP_BY_HOP.contains(name));
            edits.remove.extend(hop_by_hop.cloned());
            if sent.get(header::TE).is_some_and(|te| te != "trailers") {
                edits.remove.push(header::TE);
            }
        }
        strip_secrets(sent, &self.route.policy.schemes().headers, &mut edits);
        strip_session_cookie(sent, &mut edits);
        for (name, value) in &self.target.spec().options.custom_headers {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                edits.set_text(name, value);
            }
        }
        describe(sent, &self.client(), &mut edits);
        edits.set.push((header::HOST, self.host()));
        edits
    }

    /// The changes that make the target's headers into those for the client.
    pub(crate) fn response_edits(&self, sent: &HeaderMap) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        keep_session_cookie(sent, &mut edits);
        if let Some(cookie) = &self.set_cookie {
            edits.append.push((header::SET_COOKIE, cookie.clone()));
        }
        if let Some(location) = self.rewritten_location(sent) {
            edits.set_text(header::LOCATION, &location);
        }
        if !sent.contains_key(header::UPGRADE) {
            edits.remove.extend(nominated(sent));
            let of_connections = KEEP_ALIVE.into_iter().filter(|name| sent.contains_key(name));
            edits.remove.extend(of_connections);
        }
        edits
    }

    fn rewritten_location(&self, sent: &HeaderMap) -> Option<String> {
        let location = sent
            .get(header::LOCATION)
            .filter(|_| self.route.rewrite_redirects)?;
        client_location(
            location.to_str().ok()?,
            self.target.spec(),
            &self.prefix,
            &self.authority,
        )
    }

    fn host(&self) -> HeaderValue {
        if self.route.pass_host_header {
            HeaderValue::from_str(self.authority.as_str()).expect("it came as a header or may be one")
        } else {
            self.target.authority().clone()
        }
    }

    fn client(&self) -> Client<'_> {
        let (user, groups) = match self.permitted.identity() {
            Identity::Anyone => (None, &[][..]),
            Identity::User(user) => (user.email.as_deref(), user.groups.as_slice()),
        };
        Client {
            address: self.client.address,
            scheme: self.client.scheme.as_str(),
            authority: &self.authority,
            user,
            groups,
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
