//! Mesh control client: login, sync, signal and relay; drives the netstack's peers and paths.
