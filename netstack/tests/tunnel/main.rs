//! Two netstacks on real sockets and through an in-memory relay.

mod direct;
mod relayed;
mod support;
