//! Single requests over TLS, without Nagle's algorithm and without resumed sessions.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshgate_tests::raw;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens connections to the edge.
#[derive(Clone)]
pub(super) struct Prober {
    connector: TlsConnector,
    edge: SocketAddr,
}

/// A connection for requests to one host.
pub(super) struct Connection {
    stream: BufReader<TlsStream<TcpStream>>,
    request: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status code.
    pub(super) status: u16,
    /// Body.
    pub(super) body: String,
}

impl Prober {
    /// Trusts the authority in the file.
    pub(super) fn new(ca_file: &Path, edge: SocketAddr) -> Self {
        let mut config = raw::client_config(ca_file, &["http/1.1"]);
        config.resumption = Resumption::disabled();
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            edge,
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, host: &str) -> io::Result<Connection> {
        let tcp = TcpStream::connect(self.edge).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = self.connector.connect(name, tcp).await?;
        Ok(Connection {
            stream: BufReader::new(stream),
            request: format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
        })
    }

    /// One request on a connection of its own.
    pub(super) async fn once(&self, host: &str) -> io::Result<Answer> {
        self.connect(host).await?.ask().await
    }
}

impl Connection {
    /// One request; the connection stays open.
    pub(super) async fn ask(&mut self) -> io::Result<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange());
        answer.await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn exchange(&mut self) -> io::Result<Answer> {
        self.stream.write_all(&self.request).await?;
        self.stream.flush().await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let status = raw::status(&line).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}
