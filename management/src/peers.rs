//! Peers: list, show, delete; registration.

pub mod registration;
