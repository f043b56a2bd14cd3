//! Between generated messages and domain types: `TryFrom` on the way in, `From` on the way out.
//!
//! What comes from the network is checked here once, completely, and named by field when it is wrong.

mod access_log;
mod dns;
mod mapping;
mod network_map;
mod peer;
mod proxy;
mod rules;
mod servers;
mod signal;
mod system_meta;
mod time;

pub use signal::InvalidSignal;

/// A message that cannot be understood, and which field is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message: {field}: {reason}")]
pub struct InvalidMessage {
    /// Field by its name in the protocol file, with dots for nesting.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidMessage {
    /// Blames a field.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field,
            reason: reason.into(),
        }
    }

    fn because(field: &'static str, error: impl std::fmt::Display) -> Self {
        Self {
            field,
            reason: error.to_string(),
        }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Nothing where the wire writes an empty text.
fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
