//! Drivers that bring what is connected to what is stored.

pub mod mappings;
pub mod network_maps;
