//! Between generated messages and domain types: `TryFrom` on the way in, `From` on the way out.

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
}
