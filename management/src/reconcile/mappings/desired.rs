//! The one rule: which mapping of a service a proxy should have.

use std::collections::HashMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meshgate_proto::{
    AccountId, Authentication, HeaderAuth, Mapping, PathMapping, ProxyCapabilities, Secret, ServiceMode,
    SessionPublicKey,
};

use super::size;
use crate::session::SESSION_AGE;
use crate::store::service_records::{
    ServiceAuth, ServiceRecord, ServiceRow, TargetProtocol, TargetRow, TargetType,
};

/// A proxy as the rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyView {
    /// Whose services it may have; none = everybody's.
    pub account: Option<AccountId>,
    /// Its cluster.
    pub cluster: String,
    /// What it can do.
    pub capabilities: ProxyCapabilities,
}

/// Overlay addresses of the peers that targets name, by peer id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetHosts(HashMap<String, IpAddr>);

impl TargetHosts {
    /// Notes the address of a peer.
    pub fn insert(&mut self, peer: String, address: IpAddr) {
        self.0.insert(peer, address);
    }

    /// True when the peer was noted.
    pub fn contains(&self, peer: &str) -> bool {
        self.0.contains_key(peer)
    }
}

/// The mapping that `proxy` should have of a service; `None` = it should have none.
///
/// None of a service that is disabled or terminated, on another cluster, of another tenant, beyond the proxy's
/// capabilities, too large for a message, or with stored rules that cannot be read: what is not understood is not
/// served. Targets that
/// are disabled or whose peer is gone are left out. The one-time token is empty and is filled in when sent.
pub fn desired_mapping(record: &ServiceRecord, hosts: &TargetHosts, proxy: &ProxyView) -> Option<Mapping> {
    let service = &record.service;
    if !service.enabled || service.terminated || !is_for(service, proxy) || !can(service, proxy.capabilities)
    {
        return None;
    }
    let targets = record.targets.iter().filter(|target| target.enabled);
    let mapping = Mapping {
        id: service.id.clone(),
        account_id: service.account_id.clone(),
        domain: service.domain.clone(),
        mode: service.mode,
        listen_port: service.listen_port,
        paths: targets
            .filter_map(|target| path(service.mode, target, hosts))
            .collect(),
        auth_token: Secret::default(),
        auth: authentication(service)?,
        restrictions: service.restrictions.to_rules()?,
        pass_host_header: service.pass_host_header,
        rewrite_redirects: service.rewrite_redirects,
        private: service.private,
    };
    (size::estimate(&mapping) <= size::MAX_MAPPING).then_some(mapping)
}

fn is_for(service: &ServiceRow, proxy: &ProxyView) -> bool {
    let own = proxy
        .account
        .as_ref()
        .is_none_or(|account| *account == service.account_id);
    own && service.proxy_cluster == proxy.cluster
}

/// Private services need a proxy that understands them; ports need one that knows the question at all.
fn can(service: &ServiceRow, capabilities: ProxyCapabilities) -> bool {
    let private = !service.private || capabilities.private_services == Some(true);
    let port =
        service.listen_port == 0 || service.mode == ServiceMode::Tls || capabilities.custom_ports.is_some();
    private && port
}

fn path(mode: ServiceMode, target: &TargetRow, hosts: &TargetHosts) -> Option<PathMapping> {
    let host = host(target, hosts)?;
    let (path, target_text) = match mode {
        ServiceMode::Http => {
            let path = if target.path.is_empty() { "/" } else { &target.path };
            (path.to_owned(), url(target, &host)?)
        }
        ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls => {
            (String::new(), format!("{host}:{}", target.port))
        }
    };
    Some(PathMapping {
        path,
        target: target_text,
        options: target.options.to_options(),
    })
}

/// The host as it stands in URLs; IPv6 addresses in brackets.
fn host(target: &TargetRow, hosts: &TargetHosts) -> Option<String> {
    let text = match target.target_type {
        TargetType::Peer => hosts.0.get(&target.target_id)?.to_string(),
        TargetType::Host => target.host.split('/').next().unwrap_or_default().to_owned(),
        TargetType::Domain | TargetType::Subnet | TargetType::Cluster => target.host.clone(),
    };
    if text.is_empty() {
        return None;
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => Some(format!("[{v6}]")),
        Ok(IpAddr::V4(_)) | Err(_) => Some(text),
    }
}

/// `scheme://host/`, with the port where it is not the scheme's own.
fn url(target: &TargetRow, host: &str) -> Option<String> {
    let default_port = match target.protocol {
        TargetProtocol::Http => 80,
        TargetProtocol::Https => 443,
        TargetProtocol::Tcp | TargetProtocol::Udp => return None,
    };
    let scheme = target.protocol.as_str();
    if target.port == 0 || target.port == default_port {
        Some(format!("{scheme}://{host}/"))
    } else {
        Some(format!("{scheme}://{host}:{}/", target.port))
    }
}

/// The schemes that are on; `None` when the session key cannot be read.
fn authentication(service: &ServiceRow) -> Option<Authentication> {
    let key = STANDARD.decode(&service.session_public_key).ok()?;
    let ServiceAuth {
        password,
        pin,
        bearer,
        headers,
    } = &service.auth;
    let headers = headers.iter().filter(|header| header.enabled);
    Some(Authentication {
        session_key: Some(SessionPublicKey(key.try_into().ok()?)),
        max_session_age: SESSION_AGE,
        password: password.as_ref().is_some_and(|scheme| scheme.enabled),
        pin: pin.as_ref().is_some_and(|scheme| scheme.enabled),
        oidc: bearer.as_ref().is_some_and(|scheme| scheme.enabled),
        header_auths: headers
            .map(|header| HeaderAuth {
                header: header.header.clone(),
                hashed_value: header.hash.clone(),
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests;
