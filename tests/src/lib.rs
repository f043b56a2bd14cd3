//! End-to-end harness: real proxy, management and agent on loopback.
