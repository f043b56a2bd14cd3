//! The table of bytes with which one request is hidden in another.

use super::client::{raw_in_two, raw_to_end, status};
use super::harness::{TestEdge, app};
use super::origin::Origin;

/// A hidden request; it must never be the origin's second.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: app.test\r\n\r\n";

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let many = "x-a: 1\r\n".repeat(300);

    for head in [
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: +5\r\n",
        "content-length: 5, 6\r\n",
        "content-length: -1\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5, 5\r\n",
        "x-lines: end\n",
        "x-folded: a\r\n b\r\n",
        "x-nul: a\0b\r\n",
        many.as_str(),
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: app.test\r\n{head}\r\n0\r\n\r\n{HIDDEN}");
        let answer = raw_to_end(&edge, request.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{head:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("pingora"), "{answer}");
    }
    let old =
        format!("POST / HTTP/1.0\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}");
    assert_eq!(status(&raw_to_end(&edge, old.as_bytes()).await), 400);
    for line in [
        "GET /a /b HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET other.test:80 HTTP/1.1",
    ] {
        let request = format!("{line}\r\nhost: app.test\r\n\r\n{HIDDEN}");
        assert_eq!(
            status(&raw_to_end(&edge, request.as_bytes()).await),
            400,
            "{line}"
        );
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn broken_chunks_are_refused_and_end_no_request() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;

    for body in [
        "\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
    ] {
        let head = "POST /upload HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n";
        let at_once = raw_to_end(&edge, format!("{head}{body}{HIDDEN}").as_bytes()).await;
        let later = raw_in_two(&edge, head.as_bytes(), body.as_bytes()).await;

        assert_eq!(
            (status(&at_once), status(&later)),
            (400, 400),
            "{body:?}: {at_once} {later}"
        );
    }
    assert_eq!(origin.state.taken.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_follows_a_request_is_never_a_second_one() {
    let origin = Origin::start().await;
    let edge = TestEdge::start(vec![app(origin.address)]).await;
    let cases = [
        // Length and chunks together: chunks count, the length is dropped, the connection ends.
        "POST /a HTTP/1.1\r\nhost: app.test\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /b HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        // Pipelining.
        "GET /c HTTP/1.1\r\nhost: app.test\r\n\r\n",
        // An upgrade that nobody answers.
        "GET /d HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
        "GET /e HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
        // Bare line feeds.
        "GET /f HTTP/1.1\nhost: app.test\n\n",
    ];

    for (number, request) in cases.iter().enumerate() {
        let before = origin.requests();
        let answer = raw_to_end(&edge, format!("{request}{HIDDEN}").as_bytes()).await;

        assert!(matches!(status(&answer), 200 | 400), "{number}: {answer}");
        let answers = answer.matches("HTTP/1.1 200 OK\r\n").count() + answer.matches("HTTP/1.1 400 ").count();
        assert_eq!(answers, 1, "{number}: {answer}");
        assert!(!answer.contains("/hidden"), "{number}: {answer}");
        assert!(origin.requests() <= before + 1, "{number}");
    }
}
