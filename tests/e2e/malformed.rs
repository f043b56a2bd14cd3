//! Requests that no proper client sends. None may reach the origin, and none may hide another.

use std::time::Duration;

use meshgate_tests::raw::{exchange, status};
use meshgate_tests::{Access, Deployment, HttpVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Heads that must be refused: a name, the head with `HOST` for the service, and the status.
const HEADS: &[(&str, &str, u16)] = &[
    ("no host", "GET /m HTTP/1.1\r\n\r\n", 400),
    ("no host in HTTP/1.0", "GET /m HTTP/1.0\r\n\r\n", 400),
    ("empty host", "GET /m HTTP/1.1\r\nHost:\r\n\r\n", 400),
    (
        "two hosts",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n",
        400,
    ),
    (
        "two different hosts",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nHost: other.proxy.test\r\n\r\n",
        400,
    ),
    (
        "host list",
        "GET /m HTTP/1.1\r\nHost: HOST, other.proxy.test\r\n\r\n",
        400,
    ),
    ("host with user", "GET /m HTTP/1.1\r\nHost: a@HOST\r\n\r\n", 400),
    ("host with path", "GET /m HTTP/1.1\r\nHost: HOST/x\r\n\r\n", 400),
    (
        "host with bad port",
        "GET /m HTTP/1.1\r\nHost: HOST:junk\r\n\r\n",
        400,
    ),
    (
        "target of another host",
        "GET https://other.proxy.test/m HTTP/1.1\r\nHost: HOST\r\n\r\n",
        400,
    ),
    ("no method", " /m HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    ("bad method", "GE(T /m HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    ("no target", "GET HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    ("no version", "GET /m\r\nHost: HOST\r\n\r\n", 400),
    ("unknown version", "GET /m HTTP/9.9\r\nHost: HOST\r\n\r\n", 400),
    (
        "blank in the target",
        "GET /m /x HTTP/1.1\r\nHost: HOST\r\n\r\n",
        400,
    ),
    ("garbage", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n", 400),
    (
        "header without colon",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nnonsense\r\n\r\n",
        400,
    ),
    (
        "header without name",
        "GET /m HTTP/1.1\r\nHost: HOST\r\n: x\r\n\r\n",
        400,
    ),
    (
        "blank in a header name",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nX Y: z\r\n\r\n",
        400,
    ),
    (
        "blank before the colon",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nX-Y : z\r\n\r\n",
        400,
    ),
    (
        "NUL in a value",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nX-Y: a\0b\r\n\r\n",
        400,
    ),
    (
        "bare CR in a value",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nX-Y: a\rb\r\n\r\n",
        400,
    ),
    (
        "folded header",
        "GET /m HTTP/1.1\r\nHost: HOST\r\nX-Y: a\r\n b\r\n\r\n",
        400,
    ),
    (
        "folded first header",
        "GET /m HTTP/1.1\r\n Host: HOST\r\n\r\n",
        400,
    ),
    (
        "negative length",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
        400,
    ),
    (
        "length with sign",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: +4\r\n\r\nabcd",
        400,
    ),
    (
        "length in hexadecimal",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x4\r\n\r\nabcd",
        400,
    ),
    (
        "length list",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4, 5\r\n\r\nabcd",
        400,
    ),
    (
        "empty length",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length:\r\n\r\n",
        400,
    ),
    (
        "enormous length",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\n",
        400,
    ),
    (
        "two lengths",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        400,
    ),
    (
        "length and chunks",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunks and length",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "unknown coding",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked not last",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked twice",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked with control character",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunks in HTTP/1.0",
        "POST /m HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "coding under an alias",
        "POST /m HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
];

/// Bodies that must not end as whole requests: a name and what follows the head of a chunked POST.
const BODIES: &[(&str, &str)] = &[
    ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ("size in letters", "zz\r\nabc\r\n0\r\n\r\n"),
    ("negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("size with prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("size that overflows", "fffffffffffffffff3\r\nabc\r\n0\r\n\r\n"),
    ("chunk longer than its size", "3\r\nabcdef\r\n0\r\n\r\n"),
    ("chunk without end", "3\r\nabc0\r\n\r\n"),
];

/// A second request that a misread first one would let through.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n";

#[tokio::test]
async fn malformed_heads_are_refused_and_reach_no_origin() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("heads", Access::Open).await;
    let mut wrong = Vec::new();
    for (number, (name, head, expected)) in HEADS.iter().enumerate() {
        let path = format!("/malformed/{number}");
        let request = format!("{head}{SMUGGLED}")
            .replace("HOST", &service.domain)
            .replace("/m", &path);

        let answer = exchange(
            &deployment.ca_file(),
            deployment.edge(),
            &service.domain,
            request.as_bytes(),
        )
        .await;

        let seen = deployment.origin.seen();
        let reached = seen
            .iter()
            .filter(|seen| seen.path.contains(&path) || seen.path == "/smuggled")
            .count();
        if status(&answer) != Some(*expected) || reached > 0 {
            wrong.push(format!(
                "{name}: {:.60}, {reached} reached the origin",
                answer.replace("\r\n", " | ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn malformed_chunks_never_become_a_request() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("chunks", Access::Open).await;
    let mut wrong = Vec::new();
    for (number, (name, body)) in BODIES.iter().enumerate() {
        let head =
            format!("POST /chunk/{number} HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n");
        let request = format!("{head}{body}{SMUGGLED}").replace("HOST", &service.domain);
        let whole = deployment.origin.uploads().len();

        let answer = exchange(
            &deployment.ca_file(),
            deployment.edge(),
            &service.domain,
            request.as_bytes(),
        )
        .await;

        let taken = status(&answer).is_some_and(|status| status < 400);
        let smuggled = deployment.origin.hits("/smuggled") > 0;
        let uploads = deployment.origin.uploads();
        let arrived = uploads[whole..]
            .iter()
            .any(|upload| upload.excerpt.contains("abc"));
        if taken || smuggled || arrived {
            wrong.push(format!("{name}: {:.60}", answer.replace("\r\n", " | ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn oversize_heads_are_refused_without_touching_the_origin() {
    let deployment = Deployment::shared().await;
    let service = deployment.publish("oversize", Access::Open).await;
    let large = "x".repeat(70 * 1024);
    let many: String = (0..7000)
        .flat_map(|n| ["X-".to_owned(), n.to_string(), ": 1234\r\n".to_owned()])
        .collect();
    for (name, head, expected) in [
        (
            "large header",
            format!("GET /large HTTP/1.1\r\nHost: HOST\r\nX-Large: {large}\r\n\r\n"),
            [431, 431],
        ),
        (
            "many headers",
            format!("GET /large HTTP/1.1\r\nHost: HOST\r\n{many}\r\n"),
            [400, 431],
        ),
        (
            "long target",
            format!("GET /large?{large} HTTP/1.1\r\nHost: HOST\r\n\r\n"),
            [400, 414],
        ),
    ] {
        let request = head.replace("HOST", &service.domain);

        let answer = exchange(
            &deployment.ca_file(),
            deployment.edge(),
            &service.domain,
            request.as_bytes(),
        )
        .await;

        assert!(
            status(&answer).is_some_and(|status| expected.contains(&status)),
            "{name}: {answer:.300}"
        );
    }
    let client = deployment.client(HttpVersion::H2);
    let answer = client
        .get(&service.domain, "/large")
        .header("x-large", &large)
        .send()
        .await;
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status() == 431),
        "{answer:?}"
    );
    assert_eq!(deployment.origin.hits("/large"), 0);
    assert!(
        client.expect(&service.domain, "/", 200).await.is_ok(),
        "the edge lives on"
    );
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_answered_or_closed() {
    let deployment = Deployment::shared().await;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(),
        &[0x16, 3, 1, 0xff, 0xff, 1],
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        &[0; 64],
        &vec![0xff; 70_000],
    ] {
        let mut stream = TcpStream::connect(deployment.edge()).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();

        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;

        assert!(
            ended.is_ok(),
            "the edge holds a connection that is no TLS: {bytes:.20?}"
        );
    }
    let service = deployment.publish("after-noise", Access::Open).await;
    assert!(
        deployment
            .client(HttpVersion::H1)
            .expect(&service.domain, "/", 200)
            .await
            .is_ok()
    );
}
