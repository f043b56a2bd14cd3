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
async fn a_connection_in_use_is_kept() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut client, mut edge, connection) = pair(false);

    for _ in 0..5 {
        client.write_all(&REQUEST[..9]).await.unwrap();
        let (read, sent) = tokio::join!(read_some(&mut edge), async {
            tokio::task::yield_now().await;
            client.write_all(&REQUEST[9..]).await
        });
        sent.unwrap();
        assert_eq!(read, REQUEST);
        drop(connection.begin());
        let idle = tokio::time::timeout(HEAD_TIMEOUT * 2, edge.read(&mut [0; 8])).await;
        assert!(idle.is_err(), "{idle:?}");
    }
}

#[tokio::test]
async fn a_head_is_handed_on_whole_or_answered() {
    for (bytes, expected) in [
        ("GET /a /b HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 400 "),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 405 "),
        (
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
    ] {
        let (mut client, mut edge, _) = pair(false);
        let serve = async {
            let read = edge.read(&mut [0; 4096]).await.unwrap();
            drop(edge);
            read
        };
        let ask = async {
            client.write_all(bytes.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            answer
        };

        let (read, answer) = tokio::join!(serve, ask);

        assert_eq!(read, 0, "{bytes}");
        assert!(answer.starts_with(expected), "{bytes}: {answer}");
    }
}

#[tokio::test]
async fn an_endless_head_is_refused_early() {
    let (mut client, mut edge, _) = pair(false);
    let serve = async { edge.read(&mut [0; 4096]).await.unwrap() };
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let send = async {
        let _ = writer.write_all(b"GET / HTTP/1.1\r\nx: ").await;
        let mut sent = 0;
        while sent < 200_000 && writer.write_all(&[b'x'; 1000]).await.is_ok() {
            sent += 1000;
        }
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        answer
    };

    let (given, (), answer) = tokio::join!(serve, send, read);

    assert_eq!(given, 0);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn broken_chunks_break_the_body_off() {
    let (mut client, mut edge, connection) = pair(false);
    let head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let (head_read, ()) = tokio::join!(read_some(&mut edge), async {
        client.write_all(head).await.unwrap();
    });
    let _request = connection.begin();
    client.write_all(b"3\r\nabc\r\n").await.unwrap();
    let chunk = read_some(&mut edge).await;
    client.write_all(b"\r\n").await.unwrap();

    let error = edge.read(&mut [0; 64]).await.unwrap_err();

    assert_eq!(
        (head_read.as_slice(), chunk.as_slice()),
        (&head[..], &b"3\r\nabc\r\n"[..])
    );
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test(start_paused = true)]
async fn silent_requests_live_and_stalled_uploads_do_not() {
    let (_client, mut edge, connection) = pair(false);
    let mut request = connection.begin();

    let silent = tokio::time::timeout(Duration::from_hours(1), edge.read(&mut [0; 8])).await;
    request.upload_begins();
    let stalled = tokio::time::timeout(UPLOAD_TIMEOUT + CHECK_INTERVAL * 2, edge.read(&mut [0; 8])).await;

    assert!(silent.is_err());
    assert_eq!(stalled.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_upload_leaves_its_neighbours_alone() {
    let (_client, mut edge, connection) = pair(true);
    let (mut request, _other) = (connection.begin(), connection.begin());
    request.upload_begins();

    let read = tokio::time::timeout(UPLOAD_TIMEOUT * 5, edge.read(&mut [0; 8])).await;

    assert!(read.is_err());
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

/// What one read gives.
async fn read_some(edge: &mut EdgeIo<DuplexStream>) -> Vec<u8> {
    let mut chunk = vec![0; 4096];
    let size = edge.read(&mut chunk).await.unwrap();
    chunk.truncate(size);
    chunk
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
