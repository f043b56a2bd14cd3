//! Clients: raw bytes over TLS, and hyper for both versions of HTTP.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{PATIENCE, TestEdge};

pub(super) type Body = BoxBody<Bytes, io::Error>;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// A connection with a hyper client on it.
pub(super) enum Client {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Client {
    pub(super) async fn connect(edge: &TestEdge, name: &str, version: Http) -> Self {
        match version {
            Http::One => {
                let tls = tls(edge, name, b"http/1.1").await.unwrap();
                let (send, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
                tokio::spawn(connection.with_upgrades());
                Self::One(send)
            }
            Http::Two => {
                let tls = tls(edge, name, b"h2").await.unwrap();
                let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tls));
                let (send, connection) = handshake.await.unwrap();
                tokio::spawn(connection);
                Self::Two(send)
            }
        }
    }

    pub(super) async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let host = request
            .headers()
            .get("host")
            .map(|host| host.to_str().unwrap().to_owned());
        let answer = async {
            match self {
                Self::One(send) => {
                    send.ready().await?;
                    send.send_request(request).await
                }
                Self::Two(send) => {
                    if let Some(host) = host {
                        request.headers_mut().remove("host");
                        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
                        *request.uri_mut() = format!("https://{host}{path}").parse().unwrap();
                    }
                    send.ready().await?;
                    send.send_request(request).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("an answer must come")
    }

    pub(super) async fn get(&mut self, host: &str, path: &str) -> Answer {
        Answer::read(self.send(get(host, path)).await.unwrap()).await
    }
}

/// An answer with its whole body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: http::response::Parts,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .expect("a body must end");
        let body = String::from_utf8_lossy(&collected.unwrap().to_bytes()).into_owned();
        Self {
            status: head.status.as_u16(),
            head,
            body,
        }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.head
            .headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) fn get(host: &str, path: &str) -> Request<Body> {
    Request::get(path).header("host", host).body(empty()).unwrap()
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(super) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// A TLS connection with one protocol on offer.
pub(super) async fn tls(edge: &TestEdge, name: &str, alpn: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(&edge.roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(edge.address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Sends bytes as they are and reads until the edge closes or the answer is complete.
pub(super) async fn raw(edge: &TestEdge, request: &[u8]) -> String {
    let mut tls = tls(edge, "app.test", b"http/1.1").await.unwrap();
    tls.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = vec![0; 16 * 1024];
        while !is_complete(&answer) {
            match tls.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(size) => answer.extend_from_slice(&chunk[..size]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer must come");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes as they are and reads whatever comes until the edge closes.
pub(super) async fn raw_to_end(edge: &TestEdge, request: &[u8]) -> String {
    let mut tls = tls(edge, "app.test", b"http/1.1").await.unwrap();
    tls.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, tls.read_to_end(&mut answer)).await;
    let _ = read.expect("the edge must close");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The same with the second part a moment after the first.
pub(super) async fn raw_in_two(edge: &TestEdge, first: &[u8], second: &[u8]) -> String {
    let mut tls = tls(edge, "app.test", b"http/1.1").await.unwrap();
    tls.write_all(first).await.unwrap();
    tls.flush().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    tls.write_all(second).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, tls.read_to_end(&mut answer)).await;
    let _ = read.expect("the edge must close");
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().unwrap())
    });
    match length {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// The status code of a raw answer; 0 when there is none.
pub(super) fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}
