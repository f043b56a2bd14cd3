//! gRPC channels to management and signal.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::board::chain;
use crate::trust::Trust;

/// A server that does not accept within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two pings; servers may see more than one each 15 s as abuse.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// A ping that stays unanswered for so long ends the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message; maps of large accounts exceed the usual 4 MiB.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// A channel could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("{0:?} is no usable address")]
    Address(String),
    #[error("{0}")]
    Connect(String),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// Connects to `http://…` or `https://…`.
pub(crate) async fn connect(url: &str, trust: &Trust) -> Result<Channel, ChannelError> {
    let bad_address = |_| ChannelError::Address(url.to_owned());
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(bad_address)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if url.starts_with("https://") {
        endpoint = endpoint
            .tls_config(trust.grpc())
            .map_err(|error| ChannelError::Connect(chain(&error)))?;
    }
    match tokio::time::timeout(CONNECT_TIMEOUT * 2, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(ChannelError::Connect(chain(&error))),
        Err(_) => Err(ChannelError::TimedOut),
    }
}
