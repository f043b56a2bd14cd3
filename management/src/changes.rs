//! News of committed changes, for the reconcilers.

use meshgate_proto::{AccountId, PeerId, ServiceId, TokenId, WgPublicKey};
use tokio::sync::broadcast;

/// News kept for a slow receiver before it is told that it lost some.
const CAPACITY: usize = 4096;

/// What is different in the store now. It names what changed, not how: readers look it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A service is new or different.
    Service {
        /// Its tenant.
        account: AccountId,
        /// The service.
        service: ServiceId,
    },
    /// A service has left a cluster: it was deleted, or moved to another cluster.
    ServiceRemoved {
        /// Its tenant.
        account: AccountId,
        /// The service.
        service: ServiceId,
        /// The cluster it was on.
        cluster: String,
    },
    /// A peer is new, or has other overlay addresses, or is the tunnel of another cluster.
    Peer {
        /// Its account.
        account: AccountId,
        /// The peer.
        peer: PeerId,
    },
    /// A peer says something else of itself. Its overlay addresses are as before.
    PeerMeta {
        /// Its account.
        account: AccountId,
        /// The peer.
        peer: PeerId,
    },
    /// A peer is gone.
    PeerRemoved {
        /// Its account.
        account: AccountId,
        /// The peer.
        peer: PeerId,
        /// The key it had.
        key: WgPublicKey,
    },
    /// Settings of an account are different.
    Account {
        /// The account.
        account: AccountId,
    },
    /// A group has other members.
    Group {
        /// Its account.
        account: AccountId,
    },
    /// A policy is new, different or gone.
    Policy {
        /// Its account.
        account: AccountId,
    },
    /// A proxy token opens nothing any more.
    ProxyTokenRevoked {
        /// The token.
        token: TokenId,
    },
    /// Another set of proxies is connected.
    ProxiesChanged {
        /// Their cluster.
        cluster: String,
    },
}

/// Hands news to whoever subscribed.
///
/// Bounded: a receiver that falls behind loses the oldest news, is told so
/// ([`broadcast::error::RecvError::Lagged`]) and has to look at everything again.
#[derive(Clone, Debug)]
pub struct Changes(broadcast::Sender<Change>);

impl Changes {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// Tells a change. Only after its commit.
    pub fn publish(&self, change: Change) {
        // Without receivers there is nobody to miss it.
        let _ = self.0.send(change);
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}
