//! Pure WireGuard device and TCP/IP stack: bytes and time in, bytes and events out.
//!
//! [`Node`] is the one type that a shell drives. It knows no sockets, no clock and no runtime: `now` and the seed of
//! its randomness are arguments. (The WireGuard implementation behind it reads the clock for the protocol's own
//! timers; everything else is deterministic.)
//!
//! # Contract
//!
//! * `handle_*` puts something in: a datagram, the passing of time. `poll_*` takes something out. The setters change
//!   configuration.
//! * After any of them, call [`Node::poll_transmit`] until it says [`Progress::Done`], sending and clearing the
//!   [`TxBatch`] each time; then drain [`Node::poll_accept`] and [`Node::poll_event`]; then sleep until
//!   [`Node::poll_timeout`], a datagram, or a [`Kick`].
//! * `handle_*` may append to the batch and needs [`TxBatch::has_room`]; what finds no room is lost like a packet.
//! * `now` never goes backwards.
//! * Owners use their [`Stream`]s from any thread without the node; the [`Kick`] tells the shell that one of them
//!   has work. The only locks are one per connection and those of the [`Kick`], never two at once.

mod allowed_ips;
mod batch;
mod cidr;
mod config;
mod connection;
mod device;
mod error;
mod event;
mod firewall;
mod key;
mod kick;
mod node;
mod noise;
mod path;
mod stack;
mod stats;
mod tcp;

pub use batch::{Destination, Transmit, TxBatch};
pub use cidr::{Cidr, InvalidCidr};
pub use config::{Buffers, DEFAULT_MTU, Inbound, NodeConfig, PeerConfig, Silence};
pub use connection::Stream;
pub use error::{ConnectError, Failure};
pub use event::Event;
pub use firewall::{Firewall, FirewallRule, Flow, Ports, Protocol, Verdict};
pub use key::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
pub use kick::Kick;
pub use node::{Fullness, Node, Presence, Progress};
pub use path::{PathKind, Source};
pub use stack::listeners::{ListenOn, ListenerId, PortFilter, PortInUse};
pub use stats::{PeerStats, Stats};
