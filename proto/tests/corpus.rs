//! The corpora of the fuzz targets around messages, frames and texts, replayed.

#![expect(clippy::panic, reason = "a test")]

#[path = "../../tests/fuzz/bodies/messages.rs"]
mod messages_body;
#[path = "../../tests/fuzz/bodies/relay_frame.rs"]
mod relay_frame_body;
#[path = "../../tests/fuzz/replay.rs"]
mod replay;
#[path = "../../tests/fuzz/bodies/texts.rs"]
mod texts_body;

#[test]
fn messages_corpus_shows_no_fault() {
    replay::corpus("messages", messages_body::run);
}

#[test]
fn relay_frame_corpus_shows_no_fault() {
    replay::corpus("relay_frame", relay_frame_body::run);
}

#[test]
fn texts_corpus_shows_no_fault() {
    replay::corpus("texts", texts_body::run);
}
