//! Which host and path leads to which target, as one immutable value that every request reads.

mod compile;
mod matcher;
mod snapshot;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use compile::{DialerSource, Network, Unservable, compile, unavailable};
pub(crate) use snapshot::{Route, RouteState, Snapshot};
pub(crate) use table::{LiveConnections, RouteTable};
