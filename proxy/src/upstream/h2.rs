//! HTTP/2 to targets that need it: one shared connection per target, one stream per request.

mod connection;
mod session;

pub(crate) use connection::{Opened, SharedConnection, open_stream};
pub(crate) use session::Http2Session;
