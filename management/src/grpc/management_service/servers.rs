//! The servers that peers are told to use: all of them behind the one exposed address.

use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::Clock;
use meshgate_proto::network_map::{RelayServers, Servers, SignalServer};
use meshgate_proto::relay::RelayKey;
use url::Url;

/// How long a relay token opens the relay.
pub(crate) const RELAY_TOKEN_LIFE: Duration = Duration::from_hours(12);
/// Age at which a peer gets a new one.
pub(crate) const RELAY_TOKEN_RENEWAL: Duration = Duration::from_hours(9);

/// The servers that peers are told to use.
#[derive(Clone)]
pub struct MeshServers {
    stuns: Vec<String>,
    signal: SignalServer,
    relay_url: String,
    relay_key: RelayKey,
    clock: Arc<dyn Clock>,
}

/// The exposed address has no host, or is neither http nor https.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exposed address {0} is not of the form http(s)://host[:port]")]
pub struct BadExposedAddress(Url);

impl MeshServers {
    /// Servers behind an exposed address.
    pub fn new(
        exposed: &Url,
        stuns: Vec<String>,
        relay_key: RelayKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BadExposedAddress> {
        let bad = || BadExposedAddress(exposed.clone());
        let tls = match exposed.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad()),
        };
        let host = exposed.host_str().ok_or_else(bad)?;
        let port = exposed.port_or_known_default().ok_or_else(bad)?;
        let address = format!("{host}:{port}");
        let scheme = if tls { "rels" } else { "rel" };
        Ok(Self {
            stuns,
            relay_url: format!("{scheme}://{address}"),
            signal: SignalServer { address, tls },
            relay_key,
            clock,
        })
    }

    /// Canonical URL of the relay.
    pub fn relay_url(&self) -> &str {
        &self.relay_url
    }

    /// The servers with a fresh relay token. Always complete: a peer that is told of servers without a relay
    /// forgets the relay it had.
    pub fn now(&self) -> Servers {
        let expires = self.clock.now().saturating_add(RELAY_TOKEN_LIFE);
        Servers {
            stuns: self.stuns.clone(),
            signal: Some(self.signal.clone()),
            relay: Some(RelayServers {
                urls: vec![self.relay_url.clone()],
                token: Some(self.relay_key.mint(expires)),
            }),
            metrics: true,
        }
    }
}

impl std::fmt::Debug for MeshServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshServers")
            .field("relay_url", &self.relay_url)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{ManualClock, Secret, UnixTime};

    use super::*;

    fn servers(exposed: &str) -> Result<MeshServers, BadExposedAddress> {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_893_456_000)));
        let key = RelayKey::new(&Secret::from("secret"));
        MeshServers::new(&exposed.parse().unwrap(), Vec::new(), key, clock)
    }

    #[test]
    fn everything_follows_from_the_exposed_address() {
        let plain = servers("http://10.0.0.1:8080").unwrap().now();
        let tls = servers("https://mesh.example.com").unwrap().now();
        let v6 = servers("https://[2001:db8::1]:444/").unwrap().now();

        assert_eq!(plain.signal.unwrap().address, "10.0.0.1:8080");
        assert_eq!(plain.relay.unwrap().urls, ["rel://10.0.0.1:8080"]);
        assert!(tls.signal.as_ref().unwrap().tls);
        assert_eq!(tls.signal.unwrap().address, "mesh.example.com:443");
        assert_eq!(tls.relay.unwrap().urls, ["rels://mesh.example.com:443"]);
        assert_eq!(v6.relay.unwrap().urls, ["rels://[2001:db8::1]:444"]);
    }

    #[test]
    fn the_token_holds_for_twelve_hours_and_is_renewed_after_nine() {
        let token = servers("http://h:1").unwrap().now().relay.unwrap().token.unwrap();

        assert_eq!(token.payload(), (1_893_456_000 + 12 * 3600).to_string());
        assert_eq!(RELAY_TOKEN_RENEWAL, RELAY_TOKEN_LIFE * 3 / 4);
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(servers("ftp://h:1").is_err());
    }
}
