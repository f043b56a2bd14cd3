//! Peers come in: login of known ones, registration with a setup key, registration of a proxy's peer.
//!
//! A registration is one transaction: the key is counted, addresses and name are chosen, the peer and its
//! groups are written, the account's serial goes up. The news goes out after the commit.

mod address;
mod label;
mod limits;
mod login;
mod logout;
mod proxy;

pub use limits::TooLong;
pub use login::{Login, LoginError, Member, login, member, update_meta};
pub use logout::logout;
pub use proxy::register_proxy_peer;

use std::net::IpAddr;

use meshgate_proto::network_map::{MetaFlags, PeerCapability, SystemMeta};

use crate::actor::Scope;
use crate::store::accounts::AccountRow;
use crate::store::peers::{PeerFlags, PeerMeta, PeerRow};
use crate::store::{StoreError, Tx};
use limits::{MAX_CAPABILITIES, cut};

/// Gives a new peer free addresses and a free name, and writes it.
async fn admit(
    tx: &mut Tx,
    scope: &Scope,
    account: &AccountRow,
    peer: &mut PeerRow,
    v6: bool,
) -> Result<(), Refused> {
    peer.ip = address::free_v4(tx, scope, account).await?;
    peer.ipv6 = if v6 {
        Some(address::free_v6(tx, scope, account).await?)
    } else {
        None
    };
    let suffixed = label::with_address(&peer.dns_label, peer.ip);
    if peer.proxy_embedded || tx.dns_label_taken(scope, &peer.dns_label).await? {
        peer.dns_label = suffixed;
    }
    tx.insert_peer(peer).await?;
    tx.bump_network_serial(scope).await?;
    Ok(())
}

/// Why a peer cannot be admitted.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the account's address range is used up")]
    NoAddress,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is kept of what a machine says of itself.
fn stored_meta(meta: &SystemMeta) -> PeerMeta {
    PeerMeta {
        hostname: meta.hostname.clone(),
        go_os: cut(&meta.go_os),
        kernel: cut(&meta.kernel),
        core: cut(&meta.core),
        platform: cut(&meta.platform),
        os: cut(&meta.os),
        os_version: cut(&meta.os_version),
        agent_version: meta.agent_version.clone(),
        ui_version: meta.ui_version.clone(),
        kernel_version: cut(&meta.kernel_version),
        serial_number: cut(&meta.serial_number),
        product_name: cut(&meta.product_name),
        manufacturer: cut(&meta.manufacturer),
        flags: stored_flags(meta.flags.unwrap_or_default()),
        capabilities: meta
            .capabilities
            .iter()
            .copied()
            .take(MAX_CAPABILITIES)
            .map(capability_number)
            .collect(),
    }
}

fn stored_flags(flags: MetaFlags) -> PeerFlags {
    PeerFlags {
        rosenpass_enabled: flags.rosenpass_enabled,
        rosenpass_permissive: flags.rosenpass_permissive,
        server_ssh_allowed: flags.server_ssh_allowed,
        disable_client_routes: flags.disable_client_routes,
        disable_server_routes: flags.disable_server_routes,
        disable_dns: flags.disable_dns,
        disable_firewall: flags.disable_firewall,
        block_lan_access: flags.block_lan_access,
        block_inbound: flags.block_inbound,
        lazy_connection_enabled: flags.lazy_connection_enabled,
        disable_ipv6: flags.disable_ipv6,
    }
}

/// Capability numbers as the protocol has them.
pub(crate) const READS_PREFIXES: i32 = 1;
/// See [`READS_PREFIXES`].
pub(crate) const IPV6_OVERLAY: i32 = 2;

fn capability_number(capability: PeerCapability) -> i32 {
    match capability {
        PeerCapability::SourcePrefixes => READS_PREFIXES,
        PeerCapability::Ipv6Overlay => IPV6_OVERLAY,
        PeerCapability::ComponentNetworkMap => 3,
        PeerCapability::Other(number) => number,
    }
}

/// Where a peer calls from, as it is stored.
fn address_text(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
