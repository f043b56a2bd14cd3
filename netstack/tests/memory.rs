//! What idle connections cost. A test binary of its own: nothing else may allocate meanwhile.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(dead_code, reason = "the other binary uses the rest of the helpers")]

#[path = "tunnel/support.rs"]
mod support;

use meshgate_netstack::{ListenSpec, TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::*;

const CONNECTIONS: usize = 1000;
/// Resident bytes that one idle end may cost after a small request.
const MOST_PER_END: usize = 12 << 10;

#[tokio::test]
async fn idle_connections_are_cheap() {
    let (a, b) = neighbours();
    let mut listener = b.net.listen(ListenSpec::Port(7)).unwrap();
    let mut streams = vec![exchange(&a, &b, &mut listener).await];
    let before = resident();

    for _ in 0..CONNECTIONS {
        streams.push(exchange(&a, &b, &mut listener).await);
    }

    let per_end = resident().saturating_sub(before) / (2 * CONNECTIONS);
    assert!(
        per_end <= MOST_PER_END,
        "{per_end} bytes resident for each end of an idle connection"
    );
}

/// Opens a connection and lets one small request and its answer through.
async fn exchange(a: &Side, b: &Side, listener: &mut TcpListener) -> [TcpStream; 2] {
    let mut ours = soon(a.net.connect(at(b, 7), PATIENCE)).await.unwrap();
    let mut theirs = soon(listener.accept()).await.unwrap().stream;
    ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    soon(theirs.read_exact(&mut [0; 18])).await.unwrap();
    theirs
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    soon(ours.read_exact(&mut [0; 27])).await.unwrap();
    [ours, theirs]
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
