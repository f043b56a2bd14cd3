//! How a peer joins: setup keys, addresses and labels.
