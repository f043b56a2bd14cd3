//! gRPC calls byte by byte, for callers that the generated clients would not let through.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// Longest wait for a call to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// After a message a call that does not end within this is a stream.
const STREAM: Duration = Duration::from_millis(500);

/// How a call ended, or that it is a stream which goes on after its first message.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Status code of HTTP.
    pub http_status: u16,
    /// gRPC status; none for a stream that goes on.
    pub status: Option<u16>,
    /// Words of the status.
    pub message: String,
    /// Whether a message came.
    pub answered: bool,
}

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
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(ended) => ended.map_err(|error| format!("{path}: {error:#}")),
        Err(_) => Err(format!("{path} did not end")),
    }
}

async fn exchange(
    server: SocketAddr,
    path: &str,
    metadata: &[(&str, &str)],
    message: &Proto,
) -> anyhow::Result<Ended> {
    let stream = TcpStream::connect(server).await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut sender = sender.ready().await?;
    let request = request(server, path, metadata)?;
    let (answer, mut outgoing) = sender.send_request(request, false)?;
    // The server may have refused by the head alone; its answer says so.
    let _ = outgoing.send_data(framed(&message.0), true);
    let (head, mut incoming) = answer.await?.into_parts();
    let refused = head.headers.contains_key("grpc-status");
    let (answered, ending) = if refused {
        (false, head.headers)
    } else {
        read(&mut incoming).await?
    };
    let text = |name: &str| Some(ending.get(name)?.to_str().ok()?.to_owned());
    Ok(Ended {
        http_status: head.status.as_u16(),
        status: text("grpc-status").and_then(|status| status.parse().ok()),
        message: text("grpc-message").unwrap_or_default(),
        answered,
    })
}

fn request(server: SocketAddr, path: &str, metadata: &[(&str, &str)]) -> anyhow::Result<Request<()>> {
    let mut request = Request::post(format!("http://{server}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in metadata {
        request = request.header(*name, *value);
    }
    Ok(request.body(())?)
}

/// Whether data came, and the trailers; without trailers the call is a stream that goes on.
async fn read(incoming: &mut RecvStream) -> anyhow::Result<(bool, HeaderMap)> {
    let mut answered = false;
    loop {
        let patience = if answered { STREAM } else { PATIENCE };
        let Ok(data) = tokio::time::timeout(patience, incoming.data()).await else {
            return Ok((answered, HeaderMap::new()));
        };
        let Some(data) = data else { break };
        let data = data?;
        answered = true;
        let _ = incoming.flow_control().release_capacity(data.len());
    }
    let trailers = incoming.trailers().await?;
    Ok((answered, trailers.unwrap_or_default()))
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
