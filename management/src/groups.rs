//! Groups of peers.
