//! The corpus of the fuzz target of the relay's WebSocket, replayed.

use super::websocket;

#[path = "../../../tests/fuzz/bodies/relay_websocket.rs"]
mod body;
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[test]
fn relay_websocket_corpus_shows_no_fault() {
    replay::corpus("relay_websocket", body::run);
}
