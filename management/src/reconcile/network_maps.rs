//! Sends network maps to the peers they concern.
