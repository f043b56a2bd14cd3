//! The service over loopback, called with the generated client.

mod access;
mod harness;
mod logins;
mod reports;
mod streams;
