//! A peer's login and its configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::time::unix_time;
use super::{InvalidMessage, non_empty};
use crate::network_map::{
    LoginRequest, LoginResponse, OverlayV6, PeerConfig, PostureFiles, RemotePeer, SessionExpiry,
};
use crate::pb::management as pb;
use crate::{Cidr, Secret, UnixTime, WgPublicKey};

impl TryFrom<pb::LoginRequest> for LoginRequest {
    type Error = InvalidMessage;

    fn try_from(request: pb::LoginRequest) -> Result<Self, InvalidMessage> {
        let keys = request.peer_keys.unwrap_or_default();
        Ok(Self {
            setup_key: non_empty(request.setup_key).map(Secret::new),
            jwt: non_empty(request.jwt_token).map(Secret::new),
            meta: request
                .meta
                .ok_or_else(|| InvalidMessage::missing("meta"))?
                .into(),
            ssh_public_key: text("peerKeys.sshPubKey", keys.ssh_pub_key)?,
            wg_public_key: non_empty(text("peerKeys.wgPubKey", keys.wg_pub_key)?)
                .map(|key| {
                    key.parse()
                        .map_err(|e| InvalidMessage::because("peerKeys.wgPubKey", e))
                })
                .transpose()?,
            dns_labels: request.dns_labels,
        })
    }
}

impl From<LoginRequest> for pb::LoginRequest {
    fn from(request: LoginRequest) -> Self {
        let has_keys = request.wg_public_key.is_some() || !request.ssh_public_key.is_empty();
        Self {
            setup_key: request
                .setup_key
                .map(|key| key.expose().clone())
                .unwrap_or_default(),
            meta: Some(request.meta.into()),
            jwt_token: request.jwt.map(|jwt| jwt.expose().clone()).unwrap_or_default(),
            peer_keys: has_keys.then(|| pb::PeerKeys {
                ssh_pub_key: request.ssh_public_key.into_bytes(),
                wg_pub_key: request
                    .wg_public_key
                    .map(|key| key.to_string().into_bytes())
                    .unwrap_or_default(),
            }),
            dns_labels: request.dns_labels,
        }
    }
}

impl TryFrom<pb::LoginResponse> for LoginResponse {
    type Error = InvalidMessage;

    fn try_from(response: pb::LoginResponse) -> Result<Self, InvalidMessage> {
        let servers = response
            .netbird_config
            .ok_or_else(|| InvalidMessage::missing("netbirdConfig"))?;
        let peer = response
            .peer_config
            .ok_or_else(|| InvalidMessage::missing("peerConfig"))?;
        Ok(Self {
            servers: servers.try_into()?,
            peer: peer.try_into()?,
            checks: checks(response.checks),
            session: session(response.session_expires_at)?,
        })
    }
}

impl From<LoginResponse> for pb::LoginResponse {
    fn from(response: LoginResponse) -> Self {
        Self {
            netbird_config: Some(response.servers.into()),
            peer_config: Some(response.peer.into()),
            checks: pb_checks(response.checks),
            session_expires_at: pb_session(response.session),
        }
    }
}

impl TryFrom<pb::PeerConfig> for PeerConfig {
    type Error = InvalidMessage;

    fn try_from(config: pb::PeerConfig) -> Result<Self, InvalidMessage> {
        let (address, prefix) = overlay_v4(&config.address)?;
        Ok(Self {
            address,
            prefix,
            address_v6: overlay_v6(&config.address_v6)?,
            fqdn: config.fqdn,
            routing_peer_dns: config.routing_peer_dns_resolution_enabled,
            lazy_connections: config.lazy_connection_enabled,
            mtu: config.mtu,
            ssh_enabled: config.ssh_config.is_some_and(|ssh| ssh.ssh_enabled),
            auto_update: config
                .auto_update
                .map(|update| update.version)
                .unwrap_or_default(),
        })
    }
}

impl From<PeerConfig> for pb::PeerConfig {
    fn from(config: PeerConfig) -> Self {
        let address_v6 = config.address_v6.map(|v6| {
            let mut bytes = v6.address.octets().to_vec();
            bytes.push(v6.prefix);
            bytes
        });
        Self {
            address: format!("{}/{}", config.address, config.prefix),
            ssh_config: Some(pb::SshConfig {
                ssh_enabled: config.ssh_enabled,
                ..pb::SshConfig::default()
            }),
            fqdn: config.fqdn,
            routing_peer_dns_resolution_enabled: config.routing_peer_dns,
            lazy_connection_enabled: config.lazy_connections,
            mtu: config.mtu,
            auto_update: non_empty(config.auto_update).map(|version| pb::AutoUpdateSettings {
                version,
                always_update: false,
            }),
            address_v6: address_v6.unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl TryFrom<pb::RemotePeerConfig> for RemotePeer {
    type Error = InvalidMessage;

    fn try_from(peer: pb::RemotePeerConfig) -> Result<Self, InvalidMessage> {
        let key: WgPublicKey = peer
            .wg_pub_key
            .parse()
            .map_err(|e| InvalidMessage::because("remotePeers.wgPubKey", e))?;
        let cidr = |text: &String| {
            text.parse::<Cidr>()
                .map_err(|e| InvalidMessage::because("remotePeers.allowedIps", e))
        };
        let allowed_ips: Vec<_> = peer.allowed_ips.iter().map(cidr).collect::<Result<_, _>>()?;
        if allowed_ips.is_empty() {
            return Err(InvalidMessage::missing("remotePeers.allowedIps"));
        }
        let ssh = peer.ssh_config.unwrap_or_default();
        Ok(Self {
            key,
            allowed_ips,
            fqdn: peer.fqdn,
            ssh_public_key: text("remotePeers.sshConfig.sshPubKey", ssh.ssh_pub_key)?,
            agent_version: peer.agent_version,
        })
    }
}

impl From<RemotePeer> for pb::RemotePeerConfig {
    fn from(peer: RemotePeer) -> Self {
        Self {
            wg_pub_key: peer.key.to_string(),
            allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
            ssh_config: Some(pb::SshConfig {
                ssh_pub_key: peer.ssh_public_key.into_bytes(),
                ..pb::SshConfig::default()
            }),
            fqdn: peer.fqdn,
            agent_version: peer.agent_version,
        }
    }
}

pub(super) fn checks(checks: Vec<pb::Checks>) -> Vec<PostureFiles> {
    checks
        .into_iter()
        .map(|check| PostureFiles { files: check.files })
        .collect()
}

pub(super) fn pb_checks(checks: Vec<PostureFiles>) -> Vec<pb::Checks> {
    checks
        .into_iter()
        .map(|check| pb::Checks { files: check.files })
        .collect()
}

pub(super) fn session(expires: Option<prost_types::Timestamp>) -> Result<SessionExpiry, InvalidMessage> {
    Ok(match expires {
        None => SessionExpiry::Unknown,
        Some(prost_types::Timestamp { seconds: 0, nanos: 0 }) => SessionExpiry::Never,
        Some(time) => SessionExpiry::At(unix_time("sessionExpiresAt", &time)?),
    })
}

pub(super) fn pb_session(session: SessionExpiry) -> Option<prost_types::Timestamp> {
    match session {
        SessionExpiry::Unknown => None,
        SessionExpiry::Never => Some(UnixTime::EPOCH.into()),
        SessionExpiry::At(time) => Some(time.into()),
    }
}

fn overlay_v4(text: &str) -> Result<(Ipv4Addr, u8), InvalidMessage> {
    let wrong = || {
        InvalidMessage::new(
            "peerConfig.address",
            format!("{text:?} is not an IPv4 address and prefix"),
        )
    };
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    let prefix = prefix
        .parse()
        .ok()
        .filter(|prefix| *prefix <= 32)
        .ok_or_else(wrong)?;
    Ok((address, prefix))
}

fn overlay_v6(bytes: &[u8]) -> Result<Option<OverlayV6>, InvalidMessage> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        InvalidMessage::new(
            "peerConfig.address_v6",
            "is not sixteen address bytes and a prefix length",
        )
    };
    let (address, prefix) = bytes.split_first_chunk::<16>().ok_or_else(wrong)?;
    let [prefix @ 0..=128] = prefix else {
        return Err(wrong());
    };
    Ok(Some(OverlayV6 {
        address: Ipv6Addr::from(*address),
        prefix: *prefix,
    }))
}

/// Reads an address range written as address bytes and one byte of prefix length.
pub(super) fn packed_cidr(field: &'static str, bytes: &[u8]) -> Result<Cidr, InvalidMessage> {
    let wrong = || InvalidMessage::new(field, "is not 5 or 17 bytes of address and prefix length");
    let (prefix, address) = bytes.split_last().ok_or_else(wrong)?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).map_err(|_| wrong())?),
        16 => IpAddr::from(<[u8; 16]>::try_from(address).map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    Cidr::new(address, *prefix).map_err(|e| InvalidMessage::because(field, e))
}

/// Writes an address range as address bytes and one byte of prefix length.
pub(super) fn pack_cidr(cidr: &Cidr) -> Vec<u8> {
    let mut bytes = match cidr.address() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.push(cidr.prefix());
    bytes
}

/// Reads bytes that are text.
pub(super) fn text(field: &'static str, bytes: Vec<u8>) -> Result<String, InvalidMessage> {
    String::from_utf8(bytes).map_err(|_| InvalidMessage::new(field, "is not UTF-8"))
}
