//! The wire to management: mappings come in, acknowledgements, reports and questions go out.
//!
//! [`sync`] is pure and knows what a message changes; [`apply`] makes it so; [`session`] runs one stream and
//! [`supervise`] the succession of streams. Generated messages stay in [`client`].

mod apply;
mod backoff;
mod client;
mod report;
mod session;
mod supervise;
mod sync;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use apply::Applier;
pub(crate) use client::{CallError, ClientError, ClientSettings, ManagementClient};
pub(crate) use report::{Reporter, StatusBoard};
pub(crate) use supervise::{Control, FirstContact};
