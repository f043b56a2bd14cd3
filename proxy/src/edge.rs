//! The public side: connections, TLS, and the HTTP engine behind them.

mod chunks;
mod client_hello;
mod connection;
#[cfg(test)]
mod corpus;
mod engine;
mod guard;
mod head;
mod http;
mod listener;
mod proxy_header;
mod proxy_protocol;
mod shares;
mod stream;
mod switched;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use listener::Edge;
