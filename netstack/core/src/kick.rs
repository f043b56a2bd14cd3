//! How an application's thread tells the driver that there is work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::connection::ConnectionId;

/// Connections with news from their owners, and the waker of whoever drives the node.
///
/// Any number of marks between two turns of the driver cost one wake-up.
#[derive(Debug, Default)]
pub struct Kick {
    marked: Mutex<Vec<ConnectionId>>,
    kicked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Kick {
    /// Wakes the driver.
    pub fn kick(&self) {
        if self.kicked.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Remembers whom to wake, then says whether a kick came since the last `true`.
    pub fn take_kick(&self, waker: &Waker) -> bool {
        *self.waker.lock() = Some(waker.clone());
        self.kicked.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn mark(&self, connection: ConnectionId) {
        self.marked.lock().push(connection);
        self.kick();
    }

    pub(crate) fn take_marked(&self, into: &mut Vec<ConnectionId>) {
        std::mem::swap(&mut *self.marked.lock(), into);
    }
}
