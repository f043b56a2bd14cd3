//! How far a request and its answer have come, for the stream that carries them.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::dial::Io;

/// Known where heads and bodies are seen, asked where time is measured.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    uploading: AtomicBool,
    answered: AtomicBool,
    upgrading: AtomicBool,
    sent: AtomicBool,
    switched: AtomicBool,
    drained: AtomicBool,
    /// The stream to the target, once the protocol was switched and the engine let go of it.
    upstream: Mutex<Option<Box<dyn Io>>>,
}

impl Exchange {
    /// The client's body is being waited for, or no more.
    pub(crate) fn set_uploading(&self, uploading: bool) {
        self.uploading.store(uploading, Ordering::Relaxed);
    }

    /// The head of the final answer has come.
    pub(crate) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_uploading(&self) -> bool {
        self.uploading.load(Ordering::Relaxed)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The request asks the target to switch protocols.
    pub(crate) fn set_upgrading(&self) {
        self.upgrading.store(true, Ordering::Relaxed);
    }

    /// The engine is passing the end of the request on.
    pub(crate) fn set_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// The target has switched protocols: the engine gets no more of what it says.
    pub(crate) fn set_switched(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// The engine has asked for more after the switch, so it holds nothing of the target's any longer.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// The stream to the target, for whoever goes on with it.
    pub(crate) fn take_upstream(&self) -> Option<Box<dyn Io>> {
        self.upstream.lock().take()
    }

    pub(super) fn is_upgrading(&self) -> bool {
        self.upgrading.load(Ordering::Relaxed)
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    pub(super) fn set_drained(&self) {
        self.drained.store(true, Ordering::Relaxed);
    }

    pub(super) fn leave(&self, io: Box<dyn Io>) {
        *self.upstream.lock() = Some(io);
    }
}
