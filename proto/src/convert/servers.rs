//! The servers of a mesh.

use super::InvalidMessage;
use crate::network_map::{RelayServers, Servers, SignalServer};
use crate::pb::management as pb;
use crate::relay::RelayToken;

impl TryFrom<pb::NetbirdConfig> for Servers {
    type Error = InvalidMessage;

    fn try_from(config: pb::NetbirdConfig) -> Result<Self, InvalidMessage> {
        Ok(Self {
            stuns: config.stuns.into_iter().map(|stun| stun.uri).collect(),
            signal: config.signal.map(signal).transpose()?,
            relay: config.relay.map(|relay| RelayServers {
                token: RelayToken::from_parts(&relay.token_payload, &relay.token_signature),
                urls: relay.urls,
            }),
            metrics: config.metrics.is_some(),
        })
    }
}

impl From<Servers> for pb::NetbirdConfig {
    fn from(servers: Servers) -> Self {
        let stuns = servers.stuns.into_iter();
        Self {
            stuns: stuns.map(|uri| pb::HostConfig { uri, protocol: udp() }).collect(),
            signal: servers.signal.map(pb_signal),
            relay: servers.relay.map(pb_relay),
            metrics: servers.metrics.then(pb::MetricsConfig::default),
            ..Self::default()
        }
    }
}

fn signal(config: pb::HostConfig) -> Result<SignalServer, InvalidMessage> {
    let tls = match pb::host_config::Protocol::try_from(config.protocol) {
        Ok(pb::host_config::Protocol::Http) => false,
        Ok(pb::host_config::Protocol::Https) => true,
        Ok(
            pb::host_config::Protocol::Udp | pb::host_config::Protocol::Tcp | pb::host_config::Protocol::Dtls,
        )
        | Err(_) => {
            return Err(InvalidMessage::new(
                "netbirdConfig.signal.protocol",
                "is neither HTTP nor HTTPS",
            ));
        }
    };
    if config.uri.is_empty() {
        return Err(InvalidMessage::missing("netbirdConfig.signal.uri"));
    }
    Ok(SignalServer {
        address: config.uri,
        tls,
    })
}

fn pb_signal(server: SignalServer) -> pb::HostConfig {
    let protocol = if server.tls {
        pb::host_config::Protocol::Https
    } else {
        pb::host_config::Protocol::Http
    };
    pb::HostConfig {
        uri: server.address,
        protocol: protocol.into(),
    }
}

fn pb_relay(relay: RelayServers) -> pb::RelayConfig {
    let (token_payload, token_signature) = match relay.token {
        Some(token) => (token.payload().to_owned(), token.signature_base64()),
        None => (String::new(), String::new()),
    };
    pb::RelayConfig {
        urls: relay.urls,
        token_payload,
        token_signature,
    }
}

fn udp() -> i32 {
    pb::host_config::Protocol::Udp.into()
}
