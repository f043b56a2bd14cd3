//! How far a request and its answer have come, for the stream that carries them.

use std::sync::atomic::{AtomicBool, Ordering};

/// Known where heads and bodies are seen, asked where time is measured.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    uploading: AtomicBool,
    answered: AtomicBool,
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
}
