//! The way to the targets: dialling, idle streams, rewriting of requests and answers.

mod connect;
mod connector;
pub(crate) mod dial;
mod edits;
mod exchange;
mod forwarded;
mod h2;
mod peer;
mod pool;
mod rewrite;
pub(crate) mod spec;
mod stream;
pub(crate) mod target;
mod tls;

pub(crate) use connect::{ConnectError, NoAnswer, StalledUpload, UPLOAD_TIMEOUT};
pub(crate) use connector::TargetConnector;
pub(crate) use dial::{DialError, Dialer, Io, UpstreamAddress};
pub(crate) use edits::{HOP_BY_HOP, HeaderEdits, nominated};
pub(crate) use exchange::Exchange;
pub(crate) use forwarded::{Client, describe};
pub(crate) use peer::UpstreamCall;
pub(crate) use rewrite::{
    client_location, keep_session_cookie, strip_secrets, strip_session_cookie, target_path,
};
pub(crate) use spec::{InvalidTarget, TargetOwner, TargetScheme, TargetSpec};
pub(crate) use stream::ConnectionId;
pub(crate) use target::Target;
pub(crate) use tls::Offer;
