//! What a proxy says of itself and of its services.

use super::InvalidMessage;
use super::time::unix_time;
use crate::pb::management as pb;
use crate::{
    AccountId, InboundListener, ProxyCapabilities, ProxyHello, ProxyId, ServiceId, ServiceStatus,
    StatusUpdate,
};

impl TryFrom<pb::SyncMappingsInit> for ProxyHello {
    type Error = InvalidMessage;

    fn try_from(init: pb::SyncMappingsInit) -> Result<Self, InvalidMessage> {
        hello(
            init.proxy_id,
            init.version,
            init.started_at,
            init.address,
            init.capabilities,
        )
    }
}

impl TryFrom<pb::GetMappingUpdateRequest> for ProxyHello {
    type Error = InvalidMessage;

    fn try_from(request: pb::GetMappingUpdateRequest) -> Result<Self, InvalidMessage> {
        hello(
            request.proxy_id,
            request.version,
            request.started_at,
            request.address,
            request.capabilities,
        )
    }
}

impl From<ProxyHello> for pb::SyncMappingsInit {
    fn from(hello: ProxyHello) -> Self {
        Self {
            proxy_id: hello.proxy_id.into_string(),
            version: hello.version,
            started_at: Some(hello.started_at.into()),
            address: hello.address,
            capabilities: hello.capabilities.map(Into::into),
        }
    }
}

impl From<ProxyHello> for pb::GetMappingUpdateRequest {
    fn from(hello: ProxyHello) -> Self {
        Self {
            proxy_id: hello.proxy_id.into_string(),
            version: hello.version,
            started_at: Some(hello.started_at.into()),
            address: hello.address,
            capabilities: hello.capabilities.map(Into::into),
        }
    }
}

impl From<pb::ProxyCapabilities> for ProxyCapabilities {
    fn from(message: pb::ProxyCapabilities) -> Self {
        Self {
            custom_ports: message.supports_custom_ports,
            require_subdomain: message.require_subdomain,
            crowdsec: message.supports_crowdsec,
            private: message.private,
            private_services: message.supports_private_service,
        }
    }
}

impl From<ProxyCapabilities> for pb::ProxyCapabilities {
    fn from(capabilities: ProxyCapabilities) -> Self {
        Self {
            supports_custom_ports: capabilities.custom_ports,
            require_subdomain: capabilities.require_subdomain,
            supports_crowdsec: capabilities.crowdsec,
            private: capabilities.private,
            supports_private_service: capabilities.private_services,
        }
    }
}

impl TryFrom<pb::SendStatusUpdateRequest> for StatusUpdate {
    type Error = InvalidMessage;

    fn try_from(message: pb::SendStatusUpdateRequest) -> Result<Self, InvalidMessage> {
        let status = match pb::ProxyStatus::try_from(message.status) {
            Ok(pb::ProxyStatus::Pending) => ServiceStatus::Pending,
            Ok(pb::ProxyStatus::Active) => ServiceStatus::Active,
            Ok(pb::ProxyStatus::TunnelNotCreated) => ServiceStatus::TunnelNotCreated,
            Ok(pb::ProxyStatus::CertificatePending) => ServiceStatus::CertificatePending,
            Ok(pb::ProxyStatus::CertificateFailed) => ServiceStatus::CertificateFailed,
            Ok(pb::ProxyStatus::Error) => ServiceStatus::Error,
            Err(_) => {
                return Err(InvalidMessage::new(
                    "status",
                    format!("unknown status {}", message.status),
                ));
            }
        };
        Ok(Self {
            service_id: ServiceId::new(message.service_id),
            account_id: AccountId::new(message.account_id),
            status,
            certificate_issued: message.certificate_issued,
            error_message: message.error_message,
            inbound_listener: message.inbound_listener.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<StatusUpdate> for pb::SendStatusUpdateRequest {
    fn from(update: StatusUpdate) -> Self {
        let status = match update.status {
            ServiceStatus::Pending => pb::ProxyStatus::Pending,
            ServiceStatus::Active => pb::ProxyStatus::Active,
            ServiceStatus::TunnelNotCreated => pb::ProxyStatus::TunnelNotCreated,
            ServiceStatus::CertificatePending => pb::ProxyStatus::CertificatePending,
            ServiceStatus::CertificateFailed => pb::ProxyStatus::CertificateFailed,
            ServiceStatus::Error => pb::ProxyStatus::Error,
        };
        Self {
            service_id: update.service_id.into_string(),
            account_id: update.account_id.into_string(),
            status: status.into(),
            certificate_issued: update.certificate_issued,
            error_message: update.error_message,
            inbound_listener: update.inbound_listener.map(Into::into),
        }
    }
}

impl TryFrom<pb::ProxyInboundListener> for InboundListener {
    type Error = InvalidMessage;

    fn try_from(message: pb::ProxyInboundListener) -> Result<Self, InvalidMessage> {
        let port =
            |field, port: u32| u16::try_from(port).map_err(|_| InvalidMessage::new(field, "is not a port"));
        let tunnel_ip = message.tunnel_ip.parse();
        Ok(Self {
            tunnel_ip: tunnel_ip.map_err(|e| InvalidMessage::because("inbound_listener.tunnel_ip", e))?,
            https_port: port("inbound_listener.https_port", message.https_port)?,
            http_port: port("inbound_listener.http_port", message.http_port)?,
        })
    }
}

impl From<InboundListener> for pb::ProxyInboundListener {
    fn from(listener: InboundListener) -> Self {
        Self {
            tunnel_ip: listener.tunnel_ip.to_string(),
            https_port: u32::from(listener.https_port),
            http_port: u32::from(listener.http_port),
        }
    }
}

fn hello(
    proxy_id: String,
    version: String,
    started_at: Option<prost_types::Timestamp>,
    address: String,
    capabilities: Option<pb::ProxyCapabilities>,
) -> Result<ProxyHello, InvalidMessage> {
    if proxy_id.is_empty() {
        return Err(InvalidMessage::missing("proxy_id"));
    }
    if proxy_id.len() > crate::id::MAX_ID_LEN {
        return Err(InvalidMessage::new("proxy_id", "is longer than 255 bytes"));
    }
    let started_at = started_at
        .map(|time| unix_time("started_at", &time))
        .transpose()?;
    Ok(ProxyHello {
        proxy_id: ProxyId::new(proxy_id),
        version,
        started_at: started_at.unwrap_or_default(),
        address,
        capabilities: capabilities.map(Into::into),
    })
}
