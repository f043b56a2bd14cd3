//! Paths to a peer, the relay's half of them included.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// How packets shall reach a peer.
#[derive(Debug, Clone, Default)]
pub enum Path {
    /// Not at all: connections wait until there is a path.
    #[default]
    None,
    /// Straight to this UDP address.
    Direct(SocketAddr),
    /// Through a relay.
    Relay(RelaySink),
}

/// The sending half of a relay connection to one peer.
pub trait RelayTransport: Send + Sync {
    /// Queues one WireGuard datagram. Must not block.
    ///
    /// `false` says "full now": the netstack keeps the datagram, stops producing more for this peer and tries again
    /// after [`Netstack::relay_ready`](crate::Netstack::relay_ready) or a millisecond. A transport that is closed
    /// for good answers `true` and forgets the datagram.
    fn try_send(&self, datagram: &[u8]) -> bool;
}

/// A cloneable handle on a [`RelayTransport`].
#[derive(Clone)]
pub struct RelaySink(Arc<dyn RelayTransport>);

impl RelaySink {
    /// Wraps a transport.
    pub fn new(transport: Arc<dyn RelayTransport>) -> Self {
        Self(transport)
    }

    pub(crate) fn try_send(&self, datagram: &[u8]) -> bool {
        self.0.try_send(datagram)
    }
}

impl fmt::Debug for RelaySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelaySink")
    }
}
