//! What a machine says of itself.

use crate::network_map::{Environment, FileState, MetaFlags, NetworkAddress, PeerCapability, SystemMeta};
use crate::pb::management as pb;

impl From<pb::PeerSystemMeta> for SystemMeta {
    fn from(meta: pb::PeerSystemMeta) -> Self {
        let addresses = meta.network_addresses.into_iter();
        let files = meta.files.into_iter();
        Self {
            hostname: meta.hostname,
            go_os: meta.go_os,
            kernel: meta.kernel,
            core: meta.core,
            platform: meta.platform,
            os: meta.os,
            agent_version: meta.netbird_version,
            ui_version: meta.ui_version,
            kernel_version: meta.kernel_version,
            os_version: meta.os_version,
            network_addresses: addresses
                .map(|a| NetworkAddress {
                    net_ip: a.net_ip,
                    mac: a.mac,
                })
                .collect(),
            serial_number: meta.sys_serial_number,
            product_name: meta.sys_product_name,
            manufacturer: meta.sys_manufacturer,
            environment: meta.environment.map(|e| Environment {
                cloud: e.cloud,
                platform: e.platform,
            }),
            files: files
                .map(|file| FileState {
                    path: file.path,
                    exists: file.exist,
                    process_is_running: file.process_is_running,
                })
                .collect(),
            flags: meta.flags.map(Into::into),
            capabilities: meta.capabilities.into_iter().map(capability).collect(),
            sync_message_version: meta.sync_message_version,
        }
    }
}

impl From<SystemMeta> for pb::PeerSystemMeta {
    fn from(meta: SystemMeta) -> Self {
        let addresses = meta.network_addresses.into_iter();
        let files = meta.files.into_iter();
        Self {
            hostname: meta.hostname,
            go_os: meta.go_os,
            kernel: meta.kernel,
            core: meta.core,
            platform: meta.platform,
            os: meta.os,
            netbird_version: meta.agent_version,
            ui_version: meta.ui_version,
            kernel_version: meta.kernel_version,
            os_version: meta.os_version,
            network_addresses: addresses
                .map(|a| pb::NetworkAddress {
                    net_ip: a.net_ip,
                    mac: a.mac,
                })
                .collect(),
            sys_serial_number: meta.serial_number,
            sys_product_name: meta.product_name,
            sys_manufacturer: meta.manufacturer,
            environment: meta.environment.map(|e| pb::Environment {
                cloud: e.cloud,
                platform: e.platform,
            }),
            files: files
                .map(|file| pb::File {
                    path: file.path,
                    exist: file.exists,
                    process_is_running: file.process_is_running,
                })
                .collect(),
            flags: meta.flags.map(Into::into),
            capabilities: meta.capabilities.into_iter().map(pb_capability).collect(),
            sync_message_version: meta.sync_message_version,
        }
    }
}

impl From<pb::Flags> for MetaFlags {
    fn from(flags: pb::Flags) -> Self {
        Self {
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
            enable_ssh_root: flags.enable_ssh_root,
            enable_ssh_sftp: flags.enable_sshsftp,
            enable_ssh_local_port_forwarding: flags.enable_ssh_local_port_forwarding,
            enable_ssh_remote_port_forwarding: flags.enable_ssh_remote_port_forwarding,
            disable_ssh_auth: flags.disable_ssh_auth,
            disable_ipv6: flags.disable_i_pv6,
        }
    }
}

impl From<MetaFlags> for pb::Flags {
    fn from(flags: MetaFlags) -> Self {
        Self {
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
            enable_ssh_root: flags.enable_ssh_root,
            enable_sshsftp: flags.enable_ssh_sftp,
            enable_ssh_local_port_forwarding: flags.enable_ssh_local_port_forwarding,
            enable_ssh_remote_port_forwarding: flags.enable_ssh_remote_port_forwarding,
            disable_ssh_auth: flags.disable_ssh_auth,
            disable_i_pv6: flags.disable_ipv6,
        }
    }
}

const SOURCE_PREFIXES: i32 = pb::PeerCapability::SourcePrefixes as i32;
const IPV6_OVERLAY: i32 = pb::PeerCapability::IPv6Overlay as i32;
const COMPONENT_NETWORK_MAP: i32 = pb::PeerCapability::ComponentNetworkMap as i32;

fn capability(number: i32) -> PeerCapability {
    match number {
        SOURCE_PREFIXES => PeerCapability::SourcePrefixes,
        IPV6_OVERLAY => PeerCapability::Ipv6Overlay,
        COMPONENT_NETWORK_MAP => PeerCapability::ComponentNetworkMap,
        other => PeerCapability::Other(other),
    }
}

fn pb_capability(capability: PeerCapability) -> i32 {
    match capability {
        PeerCapability::SourcePrefixes => SOURCE_PREFIXES,
        PeerCapability::Ipv6Overlay => IPV6_OVERLAY,
        PeerCapability::ComponentNetworkMap => COMPONENT_NETWORK_MAP,
        PeerCapability::Other(number) => number,
    }
}
