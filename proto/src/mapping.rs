//! A service as one proxy gets it, and what the proxy says back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::{AccountId, Authentication, DomainName, ProxyId, Restrictions, Secret, ServiceId, UnixTime};

/// What a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceMode {
    /// HTTPS ended at the edge.
    Http,
    /// A TCP port passed through.
    Tcp,
    /// A UDP port passed through.
    Udp,
    /// TLS passed through by server name.
    Tls,
}

impl ServiceMode {
    /// The word of the protocols.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Tls => "tls",
        }
    }

    /// Reads the word; anything unknown is refused.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Http, Self::Tcp, Self::Udp, Self::Tls]
            .into_iter()
            .find(|mode| mode.as_str() == word)
    }
}

/// What happens to the matched path prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathRewrite {
    /// It is stripped.
    #[default]
    Strip,
    /// It stays.
    Preserve,
}

/// How a target is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetOptions {
    /// Accept any certificate of the target.
    pub skip_tls_verify: bool,
    /// Longest wait for the head of an answer.
    pub request_timeout: Option<Duration>,
    /// What happens to the matched prefix.
    pub path_rewrite: PathRewrite,
    /// Set on each request to the target.
    pub custom_headers: BTreeMap<String, String>,
    /// Send a PROXY protocol header first.
    pub proxy_protocol: bool,
    /// Idle limit of passed-through connections.
    pub session_idle_timeout: Option<Duration>,
    /// Dial through the proxy's own network instead of the tunnel.
    pub direct_upstream: bool,
    /// Leave requests out of the access log.
    pub disable_access_log: bool,
}

/// One path of a service and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMapping {
    /// Prefix that is matched by whole segments; "/" matches all. Empty below HTTP.
    pub path: String,
    /// HTTP: a URL; otherwise `host:port`.
    pub target: String,
    /// How the target is spoken to.
    pub options: TargetOptions,
}

/// A service as one proxy gets it.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The service.
    pub id: ServiceId,
    /// Its tenant.
    pub account_id: AccountId,
    /// Host it answers to.
    pub domain: DomainName,
    /// What it speaks.
    pub mode: ServiceMode,
    /// Port below HTTP; 0 otherwise.
    pub listen_port: u16,
    /// Where requests go.
    pub paths: Vec<PathMapping>,
    /// One-time token for registering the proxy's peer.
    pub auth_token: Secret<String>,
    /// Schemes.
    pub auth: Authentication,
    /// Rules before schemes.
    pub restrictions: Restrictions,
    /// The target sees the client's Host header.
    pub pass_host_header: bool,
    /// Redirects that name the target are rewritten.
    pub rewrite_redirects: bool,
    /// Only peers of the mesh may pass.
    pub private: bool,
}

impl Mapping {
    /// True when two mappings differ in nothing but the one-time token, which is fresh in every message.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        // Every field by name, so that a new one cannot be forgotten here.
        let Self {
            id,
            account_id,
            domain,
            mode,
            listen_port,
            paths,
            auth_token: _,
            auth,
            restrictions,
            pass_host_header,
            rewrite_redirects,
            private,
        } = self;
        *id == other.id
            && *account_id == other.account_id
            && *domain == other.domain
            && *mode == other.mode
            && *listen_port == other.listen_port
            && *paths == other.paths
            && *auth == other.auth
            && *restrictions == other.restrictions
            && *pass_host_header == other.pass_host_header
            && *rewrite_redirects == other.rewrite_redirects
            && *private == other.private
    }
}

/// One change of one service on a proxy.
#[derive(Clone, Debug)]
pub enum MappingChange {
    /// New here, or sent again with a snapshot.
    Created(Box<Mapping>),
    /// Known here and changed; the mapping is whole, not a difference.
    Modified(Box<Mapping>),
    /// Gone.
    Removed(Removal),
}

/// A service that is gone. Receivers go by the id: the rest may already name what comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The service.
    pub id: ServiceId,
    /// Its tenant.
    pub account_id: AccountId,
    /// Its host, as far as it was named.
    pub domain: Option<DomainName>,
}

impl MappingChange {
    /// The service it is about.
    pub fn service_id(&self) -> &ServiceId {
        match self {
            Self::Created(mapping) | Self::Modified(mapping) => &mapping.id,
            Self::Removed(removal) => &removal.id,
        }
    }
}

/// One message of the mapping stream.
///
/// A mapping that does not parse does not spoil its neighbours: it stands in `broken` with the reason.
#[derive(Clone, Debug, Default)]
pub struct MappingBatch {
    /// Changes in order.
    pub changes: Vec<MappingChange>,
    /// Services whose mapping could not be understood: they must be unavailable, not open.
    pub broken: Vec<BrokenMapping>,
    /// True on the last message of the snapshot.
    pub initial_sync_complete: bool,
}

/// A mapping that could not be understood.
#[derive(Clone, Debug)]
pub struct BrokenMapping {
    /// The service, as far as it was named.
    pub id: ServiceId,
    /// Its tenant, as far as it was named.
    pub account_id: AccountId,
    /// Its host, as far as it was named: that host is unavailable, not unknown.
    pub domain: Option<DomainName>,
    /// What is wrong.
    pub error: crate::InvalidMessage,
}

/// What a proxy can do; `None` means that it does not know the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCapabilities {
    /// TCP and UDP services may choose ports.
    pub custom_ports: Option<bool>,
    /// The cluster's own name carries no service.
    pub require_subdomain: Option<bool>,
    /// Reputation can be asked.
    pub crowdsec: Option<bool>,
    /// Listens inside the tunnel.
    pub private: Option<bool>,
    /// Understands private services.
    pub private_services: Option<bool>,
}

/// First words of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHello {
    /// Chosen by the proxy, kept over restarts.
    pub proxy_id: ProxyId,
    /// Program version.
    pub version: String,
    /// When the process began.
    pub started_at: UnixTime,
    /// Cluster address.
    pub address: String,
    /// What it can do; `None` from proxies of old.
    pub capabilities: Option<ProxyCapabilities>,
}

/// How a service fares on a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceStatus {
    /// Not seen yet.
    Pending,
    /// Serving.
    Active,
    /// The tunnel is down.
    TunnelNotCreated,
    /// A certificate is on its way.
    CertificatePending,
    /// No certificate could be had.
    CertificateFailed,
    /// Broken for another reason.
    Error,
}

impl ServiceStatus {
    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::TunnelNotCreated => "tunnel_not_created",
            Self::CertificatePending => "certificate_pending",
            Self::CertificateFailed => "certificate_failed",
            Self::Error => "error",
        }
    }

    /// Reads the word of the REST API.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Active,
            Self::TunnelNotCreated,
            Self::CertificatePending,
            Self::CertificateFailed,
            Self::Error,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}

/// A report on one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// The service.
    pub service_id: ServiceId,
    /// Its tenant.
    pub account_id: AccountId,
    /// How it fares.
    pub status: ServiceStatus,
    /// A certificate is in place.
    pub certificate_issued: bool,
    /// What is wrong, for the operator.
    pub error_message: Option<String>,
    /// Where the proxy listens inside the tunnel.
    pub inbound_listener: Option<InboundListener>,
}

/// Listener inside the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundListener {
    /// Overlay address.
    pub tunnel_ip: IpAddr,
    /// HTTPS port.
    pub https_port: u16,
    /// HTTP port.
    pub http_port: u16,
}
