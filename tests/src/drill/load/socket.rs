//! Messages over one WebSocket that stays open as long as it can.

use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Message;

use super::{Log, Target, patiently};
use crate::websocket::Socket;

/// Between two messages.
const PACE: Duration = Duration::from_millis(50);

/// Sends a message, waits for its return, and so on. What breaks is opened again.
pub(super) async fn echo(log: Log, target: Target) {
    let mut open: Option<Socket> = None;
    for count in 0_u64.. {
        let begun = Instant::now();
        let echoed = patiently(async {
            let mut socket = if let Some(socket) = open.take() {
                socket
            } else {
                let edge = &target.edge;
                Socket::open(&edge.ca_file, edge.address, &target.domain, "/socket", None).await?
            };
            socket.echo(Message::text(format!("message {count}"))).await?;
            Ok(socket)
        });
        open = log.end(begun, echoed.await, PACE).await;
    }
}
