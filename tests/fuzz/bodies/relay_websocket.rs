//! The relay's side of WebSocket: pieces are read like the whole, and what is passed on keeps its payload.

use bytes::BytesMut;

use super::websocket::{Incoming, Violation, next_message};

/// One message, and what a client on the other side would see of it.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
    Violation(Violation),
}

/// The first byte is the size of the pieces.
pub(super) fn run(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    assert_eq!(read(bytes, bytes.len()), read(bytes, usize::from(step)));
}

fn read(bytes: &[u8], step: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut buffer = BytesMut::new();
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let message = match next_message(&mut buffer) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(violation) => {
                    seen.push(Seen::Violation(violation));
                    return seen;
                }
            };
            seen.push(match message {
                Incoming::Binary(message) => {
                    let payload = message.payload().to_vec();
                    assert!(message.into_outgoing().ends_with(&payload));
                    Seen::Binary(payload)
                }
                Incoming::Ping(payload) => Seen::Ping(payload.to_vec()),
                Incoming::Pong => Seen::Pong,
                Incoming::Close => Seen::Close,
            });
        }
    }
    seen
}
