//! The way to the targets: dialling, idle streams, rewriting of requests and answers.

mod dial;
mod spec;
mod target;

pub use dial::{DialError, Dialer, Io, UpstreamAddress};
pub use spec::{InvalidTarget, TargetOwner, TargetScheme, TargetSpec};
pub use target::Target;
