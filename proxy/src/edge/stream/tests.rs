use meshgate_proto::DomainName;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_ends() {
    let (_client, mut edge, _) = pair(false);
    let begun = Instant::now();

    let read = edge.read(&mut [0; 8]).await.unwrap();

    assert_eq!(read, 0);
    assert_eq!(begun.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_ends_the_connection() {
    let (mut client, mut edge, _) = pair(false);
    let begun = Instant::now();
    let trickle = async {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let read = async { while edge.read(&mut [0; 8]).await.unwrap() > 0 {} };

    tokio::select! { () = trickle => {}, () = read => {} }

    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn silent_requests_live_and_stalled_uploads_do_not() {
    let (_client, mut edge, connection) = pair(true);
    let mut request = connection.begin();

    let silent = tokio::time::timeout(Duration::from_hours(1), edge.read(&mut [0; 8])).await;
    request.upload_begins();
    let stalled = tokio::time::timeout(UPLOAD_TIMEOUT + CHECK_INTERVAL, edge.read(&mut [0; 8])).await;

    assert!(silent.is_err());
    assert_eq!(stalled.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_left() {
    let (_client, mut edge, connection) = pair(true);
    let _request = connection.begin();
    let begun = Instant::now();

    let error = edge.write_all(&vec![0; 1 << 20]).await.unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
}

#[tokio::test]
async fn a_cut_ends_waiting_reads_and_all_writes() {
    let (_client, mut edge, connection) = pair(true);
    let _request = connection.begin();

    let (read, ()) = tokio::join!(async { edge.read(&mut [0; 8]).await }, async {
        tokio::task::yield_now().await;
        connection.cut().cancel();
    });
    let written = edge.write_all(b"x").await;

    assert_eq!(read.unwrap(), 0);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

fn pair(http2: bool) -> (DuplexStream, EdgeIo<DuplexStream>, Arc<EdgeConnection>) {
    let (client, server) = tokio::io::duplex(64);
    let name = DomainName::new("app.test").unwrap();
    let peer = "192.0.2.1:1".parse().unwrap();
    let connection = EdgeConnection::new(name, peer, CancellationToken::new());
    let negotiated = Negotiated {
        http2,
        cipher: "",
        version: "",
        fd: -1,
        local: peer,
    };
    let edge = EdgeIo::new(server, Arc::clone(&connection), negotiated);
    (client, edge, connection)
}
