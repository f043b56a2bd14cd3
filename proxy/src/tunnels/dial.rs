//! Streams to targets: through an account's tunnel, or through the proxy's own network.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use meshgate_proto::{AccountId, Cidr};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Shared, direct};
use crate::upstream::{DialError, Dialer, Io, UpstreamAddress};

/// Longest wait for a tunnel that is on its way.
const OPENING: Duration = Duration::from_secs(3);

/// Dials through the tunnel of one account, whichever client runs it at the moment.
#[derive(Debug)]
pub(super) struct TunnelDialer {
    account: AccountId,
    tunnels: Weak<Shared>,
}

impl TunnelDialer {
    /// A dialer that does not keep the tunnels alive.
    pub(super) fn new(account: AccountId, tunnels: Weak<Shared>) -> Self {
        Self { account, tunnels }
    }
}

#[async_trait]
impl Dialer for TunnelDialer {
    async fn dial(&self, to: &UpstreamAddress, deadline: Duration) -> Result<Box<dyn Io>, DialError> {
        let UpstreamAddress::Ip(address) = to else {
            return Err(DialError::NoRoute);
        };
        let tunnels = self.tunnels.upgrade().ok_or(DialError::PeerNotConnected)?;
        let account = tunnels
            .account(&self.account)
            .ok_or(DialError::PeerNotConnected)?;
        let deadline = capped(deadline, tunnels.parts.max_dial);
        drop(tunnels);
        let began = Instant::now();
        let tunnel = account
            .tunnel(began + deadline.min(OPENING))
            .await
            .ok_or(DialError::PeerNotConnected)?;
        let left = deadline.saturating_sub(began.elapsed());
        tunnel.connect(*address, left).await
    }
}

/// Dials through the proxy's own network and its names, but never what is the operator's alone.
#[derive(Debug)]
pub(super) struct HostDialer {
    max_dial: Option<Duration>,
    allowed: Arc<[Cidr]>,
}

impl HostDialer {
    /// A dialer that never waits longer than `max_dial`, and reaches special addresses only where `allowed`.
    pub(super) fn new(max_dial: Option<Duration>, allowed: Arc<[Cidr]>) -> Self {
        Self { max_dial, allowed }
    }
}

#[async_trait]
impl Dialer for HostDialer {
    async fn dial(&self, to: &UpstreamAddress, deadline: Duration) -> Result<Box<dyn Io>, DialError> {
        let deadline = capped(deadline, self.max_dial);
        match tokio::time::timeout(deadline, connect(to, &self.allowed)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DialError::TimedOut),
        }
    }
}

async fn connect(to: &UpstreamAddress, allowed: &[Cidr]) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = match to {
        UpstreamAddress::Ip(address) => vec![*address],
        UpstreamAddress::Name { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            found.map_err(|_| DialError::NoRoute)?.collect()
        }
    };
    let mut last = DialError::NoRoute;
    for address in addresses {
        if !direct::may_dial(address.ip(), allowed) {
            tracing::debug!(%to, "A direct target has an address that is not allowed");
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn capped(deadline: Duration, max: Option<Duration>) -> Duration {
    max.map_or(deadline, |max| deadline.min(max))
}
