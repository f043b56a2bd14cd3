//! The whole way from a client's socket to an origin's: real TLS, real sockets, a small origin.

mod client;
mod harness;
mod limits;
mod mistakes;
mod origin;
mod requests;
mod smuggling;
mod streaming;
mod upstreams;
mod websocket;
