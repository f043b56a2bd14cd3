//! gRPC calls byte by byte, for callers that the generated clients would not let through.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};

/// Longest wait for a call to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a call ended, or what came before the test stopped listening.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Status code of HTTP.
    pub http_status: u16,
    /// gRPC status; none when the call was still open after its first message.
    pub status: Option<u16>,
    /// Words of the status.
    pub message: String,
    /// Messages that came, at most [`MAX_MESSAGES`].
    pub messages: Vec<Bytes>,
}

/// Messages after which a stream is left.
pub const MAX_MESSAGES: usize = 1;

/// A message built field by field: only length-delimited fields, which is what requests are made of here.
#[derive(Clone, Debug, Default)]
pub struct Proto(Vec<u8>);

impl Proto {
    /// Without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a string or bytes.
    #[must_use]
    pub fn text(self, number: u8, value: impl AsRef<[u8]>) -> Self {
        self.field(number, value.as_ref())
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, number: u8, value: &Self) -> Self {
        self.field(number, &value.0)
    }

    fn field(mut self, number: u8, value: &[u8]) -> Self {
        self.varint(usize::from(number) << 3 | 2);
        self.varint(value.len());
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: usize) {
        while value > 0x7f {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }
}

/// Calls a method over plain HTTP/2 with one message and the metadata.
///
/// # Errors
/// When the connection fails or the call does not end.
pub async fn call(
    server: SocketAddr,
    path: &str,
    metadata: &[(&str, &str)],
    message: &Proto,
) -> Result<Ended, String> {
    let call = exchange(server, path, metadata, message);
    tokio::time::timeout(PATIENCE, call)
        .await
        .map_err(|_| format!("{path} did not end"))?
}

async fn exchange(
    server: SocketAddr,
    path: &str,
    metadata: &[(&str, &str)],
    message: &Proto,
) -> Result<Ended, String> {
    let said = |error: h2::Error| error.to_string();
    let stream = tokio::net::TcpStream::connect(server)
        .await
        .map_err(|error| error.to_string())?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(said)?;
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.map_err(said)?;
    let mut request = Request::post(format!("http://{server}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in metadata {
        request = request.header(*name, *value);
    }
    let request = request.body(()).map_err(|error| error.to_string())?;
    let (answer, mut body) = sender.send_request(request, false).map_err(said)?;
    // The server may have refused by the head alone; its answer says so.
    let _ = body.send_data(framed(&message.0), true);
    let (head, mut body) = answer.await.map_err(said)?.into_parts();
    let mut received = BytesMut::new();
    let mut messages = Vec::new();
    let mut trailers = HeaderMap::new();
    while messages.len() < MAX_MESSAGES && !head.headers.contains_key("grpc-status") {
        match body.data().await {
            Some(data) => {
                let data = data.map_err(said)?;
                let _ = body.flow_control().release_capacity(data.len());
                received.extend_from_slice(&data);
                messages.extend(unframed(&mut received));
            }
            None => {
                trailers = body.trailers().await.map_err(said)?.unwrap_or_default();
                break;
            }
        }
    }
    if trailers.is_empty() && !messages.is_empty() {
        // A unary call ends right after its message; a stream goes on, and half a second tells them apart.
        let more = tokio::time::timeout(Duration::from_millis(500), body.trailers()).await;
        trailers = more.ok().and_then(Result::ok).flatten().unwrap_or_default();
    }
    connection.abort();
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name))?;
        Some(value.to_str().ok()?.to_owned())
    };
    Ok(Ended {
        http_status: head.status.as_u16(),
        status: text("grpc-status").and_then(|status| status.parse().ok()),
        message: text("grpc-message").unwrap_or_default(),
        messages,
    })
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn unframed(received: &mut BytesMut) -> Option<Bytes> {
    let length: [u8; 4] = received.get(1..5)?.try_into().ok()?;
    let end = 5 + usize::try_from(u32::from_be_bytes(length)).ok()?;
    if received.len() < end {
        return None;
    }
    Some(received.split_to(end).freeze().slice(5..))
}
