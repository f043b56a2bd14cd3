//! A service as it is stored: its row, its targets, and the records inside.

use std::collections::BTreeMap;
use std::time::Duration;

use meshgate_proto::{
    AccountId, Cidr, CountryCode, CrowdsecMode, DomainName, GroupId, PathRewrite, PeerId, Restrictions,
    ServiceId, ServiceMode, ServiceStatus, TargetId, TargetOptions, UnixTime,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::store::StoreError;
use crate::store::columns::Columns;

/// A service and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The service.
    pub service: ServiceRow,
    /// Where it leads, in the order its owner gave.
    pub targets: Vec<TargetRow>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    /// Its id.
    pub id: ServiceId,
    /// Its tenant.
    pub account_id: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// Host it answers to. Nobody else's, in any account.
    pub domain: DomainName,
    /// Cluster that serves it.
    pub proxy_cluster: String,
    /// It is to be served.
    pub enabled: bool,
    /// It was stopped for good.
    pub terminated: bool,
    /// The target sees the client's Host header.
    pub pass_host_header: bool,
    /// Redirects that name the target are rewritten.
    pub rewrite_redirects: bool,
    /// Schemes, with their hashes.
    pub auth: ServiceAuth,
    /// Rules before schemes.
    pub restrictions: StoredRestrictions,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it last got a certificate.
    pub certificate_issued_at: Option<UnixTime>,
    /// How it fares, as a proxy last said.
    pub status: ServiceStatus,
    /// What is wrong, as that proxy said.
    pub status_message: String,
    /// When its life was last prolonged; only of ephemeral ones.
    pub last_renewed_at: Option<UnixTime>,
    /// Signing key of its sessions: base64 of 64 bytes (seed and public key), encrypted.
    pub session_private_key: String,
    /// Base64 of the 32 bytes that check them.
    pub session_public_key: String,
    /// How it came to be.
    pub source: ServiceSource,
    /// The peer that published it; only of ephemeral ones.
    pub source_peer: Option<PeerId>,
    /// What it speaks.
    pub mode: ServiceMode,
    /// Port below HTTP; 0 otherwise.
    pub listen_port: u16,
    /// That port was our choice.
    pub port_auto_assigned: bool,
    /// Only peers of the mesh may pass.
    pub private: bool,
    /// Groups of those peers.
    pub access_groups: Vec<GroupId>,
}

/// How a service came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceSource {
    /// An operator made it.
    Permanent,
    /// A peer published it for a while.
    Ephemeral,
}

impl ServiceSource {
    /// The word of the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Permanent, Self::Ephemeral]
            .into_iter()
            .find(|source| source.as_str() == word)
    }
}

/// Schemes of a service. `None` = never set; a scheme may be kept switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAuth {
    /// One password for all.
    pub password: Option<StoredSecret>,
    /// One number for all.
    pub pin: Option<StoredSecret>,
    /// Log in at the identity provider.
    pub bearer: Option<BearerAuth>,
    /// A secret in a header; any of them will do.
    pub headers: Vec<StoredHeader>,
}

/// A secret of which only the hash is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// It counts.
    pub enabled: bool,
    /// argon2id in PHC form; empty when it was never given.
    pub hash: String,
}

/// Log in at the identity provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BearerAuth {
    /// It counts.
    pub enabled: bool,
    /// Groups that may pass; none = everybody.
    pub groups: Vec<GroupId>,
}

/// A secret in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHeader {
    /// It counts.
    pub enabled: bool,
    /// Name of the header, as its owner wrote it.
    pub header: String,
    /// argon2id of its value, in PHC form.
    pub hash: String,
}

/// Rules before schemes, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredRestrictions {
    /// Ranges that may pass.
    pub allowed_cidrs: Vec<String>,
    /// Ranges that may not.
    pub blocked_cidrs: Vec<String>,
    /// Countries that may pass, two capital letters each.
    pub allowed_countries: Vec<String>,
    /// Countries that may not.
    pub blocked_countries: Vec<String>,
    /// `off`, `enforce`, `observe` or empty.
    pub crowdsec_mode: String,
}

impl StoredRestrictions {
    /// The rules in the form of the proxies; `None` when a stored one is broken, and then nobody may pass.
    pub fn to_rules(&self) -> Option<Restrictions> {
        let cidrs = |texts: &[String]| {
            texts
                .iter()
                .map(|text| text.parse().ok())
                .collect::<Option<Vec<Cidr>>>()
        };
        let countries = |texts: &[String]| {
            texts
                .iter()
                .map(|text| CountryCode::new(text))
                .collect::<Option<Vec<CountryCode>>>()
        };
        Some(Restrictions {
            allowed_cidrs: cidrs(&self.allowed_cidrs)?,
            blocked_cidrs: cidrs(&self.blocked_cidrs)?,
            allowed_countries: countries(&self.allowed_countries)?,
            blocked_countries: countries(&self.blocked_countries)?,
            crowdsec: match self.crowdsec_mode.as_str() {
                "" => CrowdsecMode::Unset,
                "off" => CrowdsecMode::Off,
                "enforce" => CrowdsecMode::Enforce,
                "observe" => CrowdsecMode::Observe,
                _ => return None,
            },
        })
    }
}

/// What kind of thing a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetType {
    /// A peer; its overlay address is dialled.
    Peer,
    /// A host behind a router.
    Host,
    /// A domain behind a router.
    Domain,
    /// A host in a subnet behind a router.
    Subnet,
    /// A host the proxies reach themselves.
    Cluster,
}

impl TargetType {
    /// The word of the REST API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Host => "host",
            Self::Domain => "domain",
            Self::Subnet => "subnet",
            Self::Cluster => "cluster",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Peer, Self::Host, Self::Domain, Self::Subnet, Self::Cluster]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// What is spoken to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetProtocol {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl TargetProtocol {
    /// The word of the REST API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Tcp, Self::Udp]
            .into_iter()
            .find(|protocol| protocol.as_str() == word)
    }
}

/// Where a service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRow {
    /// Its id.
    pub id: TargetId,
    /// Its tenant.
    pub account_id: AccountId,
    /// Its service.
    pub service_id: ServiceId,
    /// Prefix that is matched; empty = as if "/".
    pub path: String,
    /// Host its owner gave; what counts depends on the type.
    pub host: String,
    /// Port that is dialled; 0 = that of the protocol.
    pub port: u16,
    /// What is spoken.
    pub protocol: TargetProtocol,
    /// The peer, the resource or the cluster.
    pub target_id: String,
    /// Which of them.
    pub target_type: TargetType,
    /// It is to be served.
    pub enabled: bool,
    /// How it is spoken to.
    pub options: StoredOptions,
}

/// How a target is spoken to, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredOptions {
    /// Accept any certificate.
    pub skip_tls_verify: bool,
    /// Longest wait for an answer, in nanoseconds; 0 = not set.
    pub request_timeout: u64,
    /// Idle limit of connections, in nanoseconds; 0 = not set.
    pub session_idle_timeout: u64,
    /// The matched prefix stays.
    pub preserve_path: bool,
    /// Set on each request.
    pub custom_headers: BTreeMap<String, String>,
    /// Send a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Dial through the proxy's own network.
    pub direct_upstream: bool,
    /// Leave requests out of the access log.
    pub disable_access_log: bool,
}

impl StoredOptions {
    /// The options in the form of the proxies.
    pub fn to_options(&self) -> TargetOptions {
        let duration = |nanos: u64| (nanos > 0).then(|| Duration::from_nanos(nanos));
        TargetOptions {
            skip_tls_verify: self.skip_tls_verify,
            request_timeout: duration(self.request_timeout),
            path_rewrite: if self.preserve_path {
                PathRewrite::Preserve
            } else {
                PathRewrite::Strip
            },
            custom_headers: self.custom_headers.clone(),
            proxy_protocol: self.proxy_protocol,
            session_idle_timeout: duration(self.session_idle_timeout),
            direct_upstream: self.direct_upstream,
            disable_access_log: self.disable_access_log,
        }
    }
}

pub(crate) fn service_row(row: &SqliteRow) -> Result<ServiceRow, StoreError> {
    let row = Columns(row);
    Ok(ServiceRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        name: row.text("name")?,
        domain: row.parsed("domain", |text| DomainName::new(text).ok())?,
        proxy_cluster: row.text("proxy_cluster")?,
        enabled: row.flag("enabled")?,
        terminated: row.flag("terminated")?,
        pass_host_header: row.flag("pass_host_header")?,
        rewrite_redirects: row.flag("rewrite_redirects")?,
        auth: row.json("auth")?,
        restrictions: row.json("restrictions")?,
        created_at: row.time("created_at")?,
        certificate_issued_at: row.opt_time("certificate_issued_at")?,
        status: row.parsed("status", ServiceStatus::from_word)?,
        status_message: row.text("status_message")?,
        last_renewed_at: row.opt_time("last_renewed_at")?,
        session_private_key: row.text("session_private_key")?,
        session_public_key: row.text("session_public_key")?,
        source: row.parsed("source", ServiceSource::from_word)?,
        source_peer: row.opt_id("source_peer")?,
        mode: row.parsed("mode", ServiceMode::from_word)?,
        listen_port: row.number("listen_port")?,
        port_auto_assigned: row.flag("port_auto_assigned")?,
        private: row.flag("private")?,
        access_groups: row.json("access_groups")?,
    })
}

pub(crate) fn target_row(row: &SqliteRow) -> Result<TargetRow, StoreError> {
    let row = Columns(row);
    Ok(TargetRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        service_id: row.id("service_id")?,
        path: row.text("path")?,
        host: row.text("host")?,
        port: row.number("port")?,
        protocol: row.parsed("protocol", TargetProtocol::from_word)?,
        target_id: row.text("target_id")?,
        target_type: row.parsed("target_type", TargetType::from_word)?,
        enabled: row.flag("enabled")?,
        options: row.json("options")?,
    })
}
