//! How the proxy fares, for load balancers, orchestrators and people.

mod server;
mod shape;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use server::{HealthParts, serve};

/// What the rest of the proxy says of itself.
#[derive(Debug, Default)]
pub(crate) struct Health {
    connected: AtomicBool,
    synced: AtomicBool,
    draining: AtomicBool,
}

impl Health {
    /// The mapping stream is open, or not any more.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// A whole snapshot is applied.
    pub(crate) fn set_synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// The proxy takes no new connections.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The mapping stream is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// A whole snapshot was applied since the start.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// New clients should come here.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_connected() && !self.draining.load(Ordering::Relaxed)
    }
}
