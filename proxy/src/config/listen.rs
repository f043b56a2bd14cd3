use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where to listen: `:8443` on every address, `localhost:8080`, or an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: Option<IpAddr>,
    port: u16,
}

impl ListenAddress {
    /// The given port on every address of the machine.
    pub const fn any(port: u16) -> Self {
        Self { host: None, port }
    }

    /// The sockets to try, in order; the first that can be bound is the one.
    ///
    /// Every address means the dual-stack socket of IPv6, or IPv4 alone where there is no IPv6.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.host {
            Some(host) => vec![SocketAddr::new(host, self.port)],
            None => [
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ]
            .map(|host| SocketAddr::new(host, self.port))
            .to_vec(),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: Some(address.ip()),
            port: address.port(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(host) => SocketAddr::new(host, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// Text that is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address to listen on")]
pub struct InvalidListenAddress;

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListenAddress)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidListenAddress);
        }
        let port = port.parse().map_err(|_| InvalidListenAddress)?;
        let host = match host {
            "" => None,
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => {
                let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                let address = match inner {
                    Some(v6) => v6.parse().map(IpAddr::V6).ok(),
                    None => host.parse().map(IpAddr::V4).ok(),
                };
                Some(address.ok_or(InvalidListenAddress)?)
            }
        };
        Ok(Self { host, port })
    }
}
