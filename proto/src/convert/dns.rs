//! Names of the mesh.

use super::InvalidMessage;
use crate::network_map::{DnsConfig, DnsRecord, DnsZone, Nameserver, NameserverGroup};
use crate::pb::management as pb;

impl TryFrom<pb::DnsConfig> for DnsConfig {
    type Error = InvalidMessage;

    fn try_from(config: pb::DnsConfig) -> Result<Self, InvalidMessage> {
        let groups = config.name_server_groups.into_iter();
        Ok(Self {
            service_enable: config.service_enable,
            nameserver_groups: groups.map(TryInto::try_into).collect::<Result<_, _>>()?,
            zones: config.custom_zones.into_iter().map(Into::into).collect(),
            forwarder_port: config.forwarder_port,
        })
    }
}

impl From<DnsConfig> for pb::DnsConfig {
    fn from(config: DnsConfig) -> Self {
        Self {
            service_enable: config.service_enable,
            name_server_groups: config.nameserver_groups.into_iter().map(Into::into).collect(),
            custom_zones: config.zones.into_iter().map(Into::into).collect(),
            forwarder_port: config.forwarder_port,
        }
    }
}

impl TryFrom<pb::NameServerGroup> for NameserverGroup {
    type Error = InvalidMessage;

    fn try_from(group: pb::NameServerGroup) -> Result<Self, InvalidMessage> {
        let server = |server: pb::NameServer| {
            let address = server.ip.parse();
            Ok(Nameserver {
                address: address
                    .map_err(|e| InvalidMessage::because("DNSConfig.NameServerGroups.NameServers.IP", e))?,
                kind: server.ns_type,
                port: server.port,
            })
        };
        Ok(Self {
            servers: group
                .name_servers
                .into_iter()
                .map(server)
                .collect::<Result<_, InvalidMessage>>()?,
            primary: group.primary,
            domains: group.domains,
            search_domains: group.search_domains_enabled,
        })
    }
}

impl From<NameserverGroup> for pb::NameServerGroup {
    fn from(group: NameserverGroup) -> Self {
        let server = |server: Nameserver| pb::NameServer {
            ip: server.address.to_string(),
            ns_type: server.kind,
            port: server.port,
        };
        Self {
            name_servers: group.servers.into_iter().map(server).collect(),
            primary: group.primary,
            domains: group.domains,
            search_domains_enabled: group.search_domains,
        }
    }
}

impl From<pb::CustomZone> for DnsZone {
    fn from(zone: pb::CustomZone) -> Self {
        let record = |record: pb::SimpleRecord| DnsRecord {
            name: record.name,
            kind: record.r#type,
            class: record.class,
            ttl: record.ttl,
            data: record.r_data,
        };
        Self {
            domain: zone.domain,
            records: zone.records.into_iter().map(record).collect(),
            search_disabled: zone.search_domain_disabled,
            non_authoritative: zone.non_authoritative,
        }
    }
}

impl From<DnsZone> for pb::CustomZone {
    fn from(zone: DnsZone) -> Self {
        let record = |record: DnsRecord| pb::SimpleRecord {
            name: record.name,
            r#type: record.kind,
            class: record.class,
            ttl: record.ttl,
            r_data: record.data,
        };
        Self {
            domain: zone.domain,
            records: zone.records.into_iter().map(record).collect(),
            search_domain_disabled: zone.search_disabled,
            non_authoritative: zone.non_authoritative,
        }
    }
}
