//! What idle connections cost. A test binary of its own: nothing else may allocate meanwhile.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(dead_code, reason = "the other binary uses the rest of the helpers")]

#[path = "tunnel/support.rs"]
mod support;

use std::time::Duration;

use meshgate_netstack::{ListenSpec, TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::*;

const CONNECTIONS: usize = 1000;
/// Connections that carry much, and how much.
const USED: usize = 200;
const CARRIED: usize = 600_000;
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

    // What connections have carried makes no difference once they wait.
    streams.truncate(1);
    let before = resident();
    let bytes = vec![1; CARRIED];
    let mut received = vec![0; CARRIED];
    for _ in 0..USED {
        let mut ends = exchange(&a, &b, &mut listener).await;
        for (from, to) in [(0, 1), (1, 0)] {
            let [from, to] = ends.get_disjoint_mut([from, to]).unwrap();
            let (sent, got) = tokio::join!(from.write_all(&bytes), to.read_exact(&mut received));
            sent.unwrap();
            got.unwrap();
        }
        streams.push(ends);
    }
    let limit = std::time::Instant::now() + PATIENCE;
    while resident().saturating_sub(before) / (2 * USED) > MOST_PER_END {
        let grown = resident().saturating_sub(before);
        assert!(
            std::time::Instant::now() < limit,
            "{grown} bytes are held by {USED} used connections"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
