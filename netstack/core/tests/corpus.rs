//! The corpus of the fuzz target of the core, replayed.

#![expect(clippy::panic, reason = "a test")]

#[path = "../../../tests/fuzz/bodies/netstack.rs"]
mod netstack_body;
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[test]
fn netstack_corpus_shows_no_fault() {
    replay::corpus("netstack", netstack_body::run);
}
