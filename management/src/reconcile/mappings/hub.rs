//! The proxies that are connected now, and which of their services need a look.

use std::collections::HashMap;

use meshgate_proto::{AccountId, PeerId, ProxyId, ServiceId, TokenId};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::desired::ProxyView;

/// News that may wait for one proxy. When it is full the stream ends and the proxy starts over.
pub const QUEUE: usize = 100;

/// What needs a look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dirty {
    /// One service.
    Service {
        /// Its tenant.
        account: AccountId,
        /// The service.
        service: ServiceId,
    },
    /// All services that lead to a peer.
    Target {
        /// Their tenant.
        account: AccountId,
        /// The peer.
        target: PeerId,
    },
}

impl Dirty {
    /// Whose it is.
    pub fn account(&self) -> &AccountId {
        match self {
            Self::Service { account, .. } | Self::Target { account, .. } => account,
        }
    }
}

/// Why a stream ends although its proxy is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    /// The same proxy has opened another stream.
    #[error("another connection of the same proxy took over")]
    Superseded,
    /// The token opens nothing any more.
    #[error("token expired or revoked")]
    Revoked,
    /// The proxy did not keep up with the changes.
    #[error("too many changes are waiting; connect again for a whole snapshot")]
    Overflow,
    /// The proxy took too long to acknowledge.
    #[error("snapshot batch was not acknowledged in time")]
    NoAck,
    /// The proxy hung up.
    #[error("proxy closed the stream")]
    Closed,
    /// The database did not answer.
    #[error("internal error")]
    Internal,
    /// The server stops.
    #[error("server is shutting down")]
    Shutdown,
}

/// The connected proxies.
#[derive(Debug, Default)]
pub struct MappingHub {
    links: Mutex<HashMap<ProxyId, Link>>,
}

#[derive(Debug)]
struct Link {
    session: Uuid,
    account: Option<AccountId>,
    token: TokenId,
    dirty: mpsc::Sender<Dirty>,
    end: watch::Sender<Option<StreamEnd>>,
}

impl Link {
    fn end(&self, why: StreamEnd) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(why);
            }
            first
        });
    }
}

/// A proxy's place in the hub, held by its stream.
#[derive(Debug)]
pub struct Connection {
    /// What needs a look.
    pub dirty: mpsc::Receiver<Dirty>,
    /// Whether and why the hub wants the stream to end.
    pub end: EndSignal,
}

/// Whether and why a stream is to end.
#[derive(Debug)]
pub struct EndSignal(watch::Receiver<Option<StreamEnd>>);

impl EndSignal {
    /// Waits until the stream is to end.
    pub async fn wait(&mut self) -> StreamEnd {
        match self.0.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(StreamEnd::Superseded),
            Err(_) => StreamEnd::Superseded,
        }
    }
}

impl MappingHub {
    /// Takes a proxy in. An older connection of the same proxy ends.
    pub fn connect(&self, proxy: ProxyId, session: Uuid, view: &ProxyView, token: TokenId) -> Connection {
        let (dirty, receiver) = mpsc::channel(QUEUE);
        let (end, end_receiver) = watch::channel(None);
        let link = Link {
            session,
            account: view.account.clone(),
            token,
            dirty,
            end,
        };
        if let Some(older) = self.links.lock().insert(proxy, link) {
            older.end(StreamEnd::Superseded);
        }
        Connection {
            dirty: receiver,
            end: EndSignal(end_receiver),
        }
    }

    /// Lets a proxy go, unless a newer connection of it stands; tells whether it went.
    pub fn disconnect(&self, proxy: &ProxyId, session: Uuid) -> bool {
        let mut links = self.links.lock();
        let current = links.get(proxy).is_some_and(|link| link.session == session);
        if current {
            links.remove(proxy);
        }
        current
    }

    /// Tells every proxy that may serve the account. One whose queue is full loses its stream.
    pub fn mark(&self, account: &AccountId, dirty: &Dirty) {
        for link in self.links.lock().values() {
            let concerned = link.account.as_ref().is_none_or(|own| own == account);
            if concerned && link.dirty.try_send(dirty.clone()).is_err() {
                link.end(StreamEnd::Overflow);
            }
        }
    }

    /// Ends the streams that were opened with a token.
    pub fn end_token(&self, token: &TokenId) {
        for link in self.links.lock().values().filter(|link| link.token == *token) {
            link.end(StreamEnd::Revoked);
        }
    }

    /// Ends all streams.
    pub fn end_all(&self, why: StreamEnd) {
        for link in self.links.lock().values() {
            link.end(why);
        }
    }

    /// Whose proxy is connected under this id. The inner `None` is a shared one.
    pub fn owner(&self, proxy: &ProxyId) -> Option<Option<AccountId>> {
        self.links.lock().get(proxy).map(|link| link.account.clone())
    }

    /// Number of connected proxies.
    pub fn len(&self) -> usize {
        self.links.lock().len()
    }

    /// True when no proxy is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use meshgate_proto::ProxyCapabilities;

    use super::*;

    fn view(account: Option<&str>) -> ProxyView {
        ProxyView {
            account: account.map(AccountId::new),
            cluster: "proxy.test".to_owned(),
            capabilities: ProxyCapabilities::default(),
        }
    }

    fn dirty(account: &str) -> Dirty {
        Dirty::Service {
            account: AccountId::new(account),
            service: ServiceId::new("s"),
        }
    }

    #[tokio::test]
    async fn a_second_connection_ends_the_first_and_keeps_its_place() {
        let hub = MappingHub::default();
        let (old, new) = (Uuid::new_v4(), Uuid::new_v4());
        let mut first = hub.connect(ProxyId::new("p"), old, &view(None), TokenId::new("t"));
        let _second = hub.connect(ProxyId::new("p"), new, &view(None), TokenId::new("t"));

        assert_eq!(first.end.wait().await, StreamEnd::Superseded);
        assert!(!hub.disconnect(&ProxyId::new("p"), old));
        assert!(hub.disconnect(&ProxyId::new("p"), new));
        assert!(hub.is_empty());
    }

    #[tokio::test]
    async fn news_go_to_proxies_of_the_account_and_to_shared_ones() {
        let hub = MappingHub::default();
        let mut own = hub.connect(
            ProxyId::new("own"),
            Uuid::new_v4(),
            &view(Some("a")),
            TokenId::new("t"),
        );
        let mut foreign = hub.connect(
            ProxyId::new("foreign"),
            Uuid::new_v4(),
            &view(Some("b")),
            TokenId::new("t"),
        );
        let mut shared = hub.connect(
            ProxyId::new("shared"),
            Uuid::new_v4(),
            &view(None),
            TokenId::new("t"),
        );

        hub.mark(&AccountId::new("a"), &dirty("a"));

        assert_eq!(own.dirty.try_recv(), Ok(dirty("a")));
        assert_eq!(shared.dirty.try_recv(), Ok(dirty("a")));
        assert!(foreign.dirty.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_full_queue_ends_the_stream() {
        let hub = MappingHub::default();
        let mut connection = hub.connect(ProxyId::new("p"), Uuid::new_v4(), &view(None), TokenId::new("t"));

        for _ in 0..=QUEUE {
            hub.mark(&AccountId::new("a"), &dirty("a"));
        }

        assert_eq!(connection.end.wait().await, StreamEnd::Overflow);
    }

    #[tokio::test]
    async fn a_revoked_token_ends_its_streams_only() {
        let hub = MappingHub::default();
        let mut revoked = hub.connect(ProxyId::new("p"), Uuid::new_v4(), &view(None), TokenId::new("t"));
        let other = hub.connect(ProxyId::new("q"), Uuid::new_v4(), &view(None), TokenId::new("u"));

        hub.end_token(&TokenId::new("t"));

        assert_eq!(revoked.end.wait().await, StreamEnd::Revoked);
        assert_eq!(*other.end.0.borrow(), None);
    }
}
