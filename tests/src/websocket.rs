//! WebSockets through the edge.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::raw;

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket(WebSocketStream<Box<dyn Stream>>);

/// A connection with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for S {}

impl Socket {
    /// Opens one at a path of a service.
    ///
    /// # Errors
    /// What the service answered instead, or that the edge does not take the connection.
    pub async fn open(
        ca_file: &Path,
        edge: SocketAddr,
        domain: &str,
        path: &str,
        cookie: Option<&str>,
    ) -> Result<Self, String> {
        let stream: Box<dyn Stream> = Box::new(
            raw::tls(ca_file, edge, domain, &["http/1.1"])
                .await
                .map_err(|error| error.to_string())?,
        );
        let url = format!("wss://{domain}:{}{path}", edge.port());
        let mut request = url.into_client_request().map_err(|error| error.to_string())?;
        if let Some(cookie) = cookie {
            request.headers_mut().insert(
                "cookie",
                HeaderValue::from_str(cookie).map_err(|error| error.to_string())?,
            );
        }
        let opened = tokio_tungstenite::client_async(request, stream).await;
        opened
            .map(|(socket, _)| Self(socket))
            .map_err(|error| error.to_string())
    }

    /// Opens one at a `ws://` address with a numeric host.
    ///
    /// # Errors
    /// What the server answered instead.
    ///
    /// # Panics
    /// When the address is none.
    pub async fn open_plain(url: &str) -> Result<Self, String> {
        let request = url.into_client_request().expect("it is a URL");
        let server = request
            .uri()
            .authority()
            .expect("the URL names a server")
            .as_str()
            .to_owned();
        let stream = TcpStream::connect(server)
            .await
            .map_err(|error| error.to_string())?;
        let stream: Box<dyn Stream> = Box::new(stream);
        let opened = tokio_tungstenite::client_async(request, stream).await;
        opened
            .map(|(socket, _)| Self(socket))
            .map_err(|error| error.to_string())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, message: Message) -> Result<(), String> {
        self.0.send(message).await.map_err(|error| error.to_string())
    }

    /// The next message that is no ping or pong; none when the connection has ended.
    ///
    /// # Errors
    /// When it broke or nothing came.
    pub async fn receive(&mut self) -> Result<Option<Message>, String> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next())
                .await
                .map_err(|_| "nothing came")?;
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Ok(Some(message)),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(None),
            }
        }
    }

    /// Sends a message and checks that it comes back.
    ///
    /// # Errors
    /// Tells what came instead.
    pub async fn echo(&mut self, message: Message) -> Result<(), String> {
        self.send(message.clone()).await?;
        match self.receive().await? {
            Some(back) if back == message => Ok(()),
            other => Err(format!(
                "{:.200} instead of the same message",
                format!("{other:?}")
            )),
        }
    }

    /// Closes from this side and waits for the other's consent.
    ///
    /// # Errors
    /// When the connection broke instead.
    pub async fn close(mut self) -> Result<(), String> {
        self.0.close(None).await.map_err(|error| error.to_string())?;
        while self.receive().await?.is_some() {}
        Ok(())
    }
}
