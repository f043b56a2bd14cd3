//! Many clients of one edge, each with little memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _, stream};
use meshgate_tests::{Deployment, raw};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Connections that are being opened at a time.
const OPENING: usize = 32;
/// Addresses from which clients come; one alone gets a share of the edge only.
const ADDRESSES: usize = 100;
/// Buffer of a WebSocket.
const BUFFER: usize = 1024;

pub(super) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Opens connections to the edge of a deployment.
pub(super) struct Clients {
    config: Arc<ClientConfig>,
    edge: SocketAddr,
    domain: String,
}

impl Clients {
    pub(super) fn new(deployment: &Deployment, domain: &str) -> Self {
        Self {
            config: Arc::new(raw::client_config(&deployment.ca_file(), &["http/1.1"])),
            edge: deployment.edge(),
            domain: domain.to_owned(),
        }
    }

    /// Opens TLS connections that ask for nothing.
    pub(super) async fn connect(&self, count: usize) -> anyhow::Result<Vec<TlsStream<TcpStream>>> {
        let opening = stream::iter(0..count).map(|number| self.tls(number));
        collect(opening.buffer_unordered(OPENING).collect().await)
    }

    /// Opens WebSockets and lets one message through each.
    pub(super) async fn open(&self, count: usize) -> anyhow::Result<Vec<Socket>> {
        let opening = stream::iter(0..count).map(|number| self.websocket(number));
        collect(opening.buffer_unordered(OPENING).collect().await)
    }

    async fn websocket(&self, number: usize) -> anyhow::Result<Socket> {
        let url = format!("wss://{}:{}/idle", self.domain, self.edge.port());
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER);
        let tls = self.tls(number).await?;
        let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, tls, Some(config)).await?;
        echo(&mut socket, &format!("number {number}")).await?;
        Ok(socket)
    }

    async fn tls(&self, number: usize) -> anyhow::Result<TlsStream<TcpStream>> {
        let last = u8::try_from(number % ADDRESSES)? + 1;
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 2, last), 0).into())?;
        let tcp = socket.connect(self.edge).await?;
        let name = ServerName::try_from(self.domain.clone())?;
        Ok(TlsConnector::from(Arc::clone(&self.config))
            .connect(name, tcp)
            .await?)
    }
}

/// Sends a message and waits until it comes back.
pub(super) async fn echo(socket: &mut Socket, text: &str) -> anyhow::Result<()> {
    let message = Message::text(text);
    socket.send(message.clone()).await?;
    let back = socket.next().await.context("the WebSocket has ended")??;
    anyhow::ensure!(back == message, "{back:?} instead of the same message");
    Ok(())
}

fn collect<T>(opened: Vec<anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    opened.into_iter().collect()
}
