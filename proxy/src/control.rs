//! The wire to management: mappings come in, acknowledgements, reports and questions go out.
//!
//! [`sync`] is pure and knows what a message changes; [`apply`] makes it so; [`session`] runs one stream and
//! [`supervise`] the succession of streams. Generated messages stay in [`client`],
//! [`stream`] and [`ask`].

mod apply;
mod ask;
mod backoff;
mod board;
mod client;
mod error;
mod report;
mod session;
mod stream;
mod supervise;
mod sync;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use apply::Applier;
pub(crate) use board::StatusBoard;
pub(crate) use client::{AccessLogLine, ClientError, ClientSettings, ManagementClient};
pub(crate) use error::CallError;
pub(crate) use report::Reporter;
pub(crate) use supervise::{Control, FirstContact};
pub(crate) use sync::SyncState;
