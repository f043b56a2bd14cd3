//! Vocabulary: wire messages, domain types, conversions, ids, clock, secrets.
