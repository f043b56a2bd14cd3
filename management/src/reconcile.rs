//! Drivers that bring what is connected to what is stored.

pub mod ended_tokens;
pub mod ephemeral_peers;
pub mod mappings;
pub mod network_maps;
