//! Writes access logs in batches.
