//! The only place that builds the engine's peers: a peer is a sealed letter to our own connector.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_http::ResponseHeader;

use super::exchange::Exchange;
use super::target::Target;
use super::tls::Offer;

/// What one attempt of one request asks of the connector.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamCall {
    /// Where to.
    pub(crate) target: Arc<Target>,
    /// What the request can be sent over.
    pub(crate) wants: Offer,
    /// An idle stream will not do, because one has just failed.
    pub(crate) fresh: bool,
    /// How far the request has come.
    pub(crate) exchange: Arc<Exchange>,
}

impl UpstreamCall {
    /// Seals the call into a peer.
    ///
    /// The engine hands peers through to the connector untouched. The only thing in a peer that gives back
    /// a value of any type is the hook that makes user data for connections through a proxy, which no
    /// connection of ours uses.
    pub(crate) fn into_peer(self) -> Box<HttpPeer> {
        let mut peer = TEMPLATE.clone();
        peer.options.proxy_digest_user_data_hook = Some(Arc::new(move |_, _| {
            Some(Box::new(self.clone()) as Box<dyn Any + Send + Sync>)
        }));
        Box::new(peer)
    }

    /// Opens a peer that [`Self::into_peer`] sealed.
    pub(crate) fn from_peer(peer: &impl Peer) -> Option<Self> {
        let hook = peer.proxy_digest_user_data_hook()?;
        let call = hook(&EMPTY.request, &EMPTY.response)?;
        call.downcast().ok().map(|call| *call)
    }
}

static TEMPLATE: LazyLock<HttpPeer> = LazyLock::new(|| {
    let mut peer = HttpPeer::new("0.0.0.0:1", false, String::new());
    peer.options.alpn = ALPN::Custom(CustomALPN::new(b"meshgate".to_vec()));
    peer
});

/// What the hook wants to see and we do not look at.
struct Empty {
    request: http::request::Parts,
    response: ResponseHeader,
}

static EMPTY: LazyLock<Empty> = LazyLock::new(|| Empty {
    request: http::Request::new(()).into_parts().0,
    response: http::Response::new(()).into_parts().0.into(),
});
