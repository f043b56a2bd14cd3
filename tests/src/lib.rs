//! End-to-end harness: starts the real binary in real processes on loopback and talks to it as users do.
//!
//! Nothing here knows the packages behind the binary. What must become true is polled for with a deadline;
//! nothing sleeps to let something happen. A missing component fails the test and names the step that
//! installs it.

#![expect(clippy::panic, reason = "a harness fails tests by panicking")]

pub mod binary;
pub mod browser;
pub mod client;
pub mod demo;
pub mod deployment;
pub mod drill;
pub mod folder;
pub mod grpc;
pub mod login;
pub mod origin;
pub mod payload;
pub mod poll;
pub mod ports;
pub mod process;
pub mod raw;
pub mod rest;
pub mod turn;
pub mod websocket;

pub use binary::binary;
pub use client::{Client, HttpVersion};
pub use demo::Demo;
pub use deployment::{Access, Deployment, Part};
pub use folder::Folder;
pub use login::{Login, LoginForm};
pub use origin::Origin;
pub use payload::Payload;
pub use poll::{eventually, within};
pub use process::Process;
pub use rest::Rest;
