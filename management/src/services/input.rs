//! A service as a caller writes it, unchecked.

use std::collections::BTreeMap;

use meshgate_proto::Secret;
use serde::Deserialize;

use crate::lenient::{empty, object, objects, secret};

/// A service as a caller writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceInput {
    /// What its owner calls it.
    #[serde(deserialize_with = "empty")]
    pub name: String,
    /// Host it answers to.
    #[serde(deserialize_with = "empty")]
    pub domain: String,
    /// `http`, `tcp`, `udp` or `tls`; empty = `http`.
    #[serde(deserialize_with = "empty")]
    pub mode: String,
    /// Port below HTTP; 0 = any.
    #[serde(deserialize_with = "empty")]
    pub listen_port: i64,
    /// Where it leads.
    #[serde(deserialize_with = "objects")]
    pub targets: Vec<TargetInput>,
    /// It is to be served.
    #[serde(deserialize_with = "empty")]
    pub enabled: bool,
    /// The target sees the client's Host header.
    #[serde(deserialize_with = "empty")]
    pub pass_host_header: bool,
    /// Redirects that name the target are rewritten.
    #[serde(deserialize_with = "empty")]
    pub rewrite_redirects: bool,
    /// Who may pass.
    #[serde(deserialize_with = "object")]
    pub auth: Option<AuthInput>,
    /// Rules before that.
    #[serde(deserialize_with = "object")]
    pub access_restrictions: Option<RestrictionsInput>,
    /// Only peers of the mesh may pass.
    #[serde(deserialize_with = "empty")]
    pub private: bool,
    /// Groups of those peers.
    #[serde(deserialize_with = "empty")]
    pub access_groups: Vec<String>,
}

/// Where a service leads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TargetInput {
    /// The peer, the resource or the cluster.
    #[serde(deserialize_with = "empty")]
    pub target_id: String,
    /// Which of them.
    #[serde(deserialize_with = "empty")]
    pub target_type: String,
    /// Prefix that is matched.
    #[serde(deserialize_with = "empty")]
    pub path: String,
    /// What is spoken.
    #[serde(deserialize_with = "empty")]
    pub protocol: String,
    /// Host, where the type leaves it open.
    #[serde(deserialize_with = "empty")]
    pub host: String,
    /// Port that is dialled.
    #[serde(deserialize_with = "empty")]
    pub port: i64,
    /// It is to be served.
    #[serde(deserialize_with = "empty")]
    pub enabled: bool,
    /// How it is spoken to.
    #[serde(deserialize_with = "object")]
    pub options: Option<OptionsInput>,
}

/// How a target is spoken to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OptionsInput {
    /// Accept any certificate.
    #[serde(deserialize_with = "empty")]
    pub skip_tls_verify: bool,
    /// Longest wait for an answer, such as `30s`.
    #[serde(deserialize_with = "empty")]
    pub request_timeout: String,
    /// Idle limit of connections.
    #[serde(deserialize_with = "empty")]
    pub session_idle_timeout: String,
    /// `preserve` or empty.
    #[serde(deserialize_with = "empty")]
    pub path_rewrite: String,
    /// Set on each request.
    #[serde(deserialize_with = "empty")]
    pub custom_headers: BTreeMap<String, String>,
    /// Send a PROXY protocol header.
    #[serde(deserialize_with = "empty")]
    pub proxy_protocol: bool,
    /// Dial through the proxy's own network.
    #[serde(deserialize_with = "empty")]
    pub direct_upstream: bool,
}

/// Who may pass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuthInput {
    /// One password for all.
    #[serde(deserialize_with = "object")]
    pub password_auth: Option<PasswordInput>,
    /// One number for all.
    #[serde(deserialize_with = "object")]
    pub pin_auth: Option<PinInput>,
    /// Log in at the identity provider.
    #[serde(deserialize_with = "object")]
    pub bearer_auth: Option<BearerInput>,
    /// A secret in a header.
    #[serde(deserialize_with = "objects")]
    pub header_auths: Vec<HeaderInput>,
}

/// One password for all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PasswordInput {
    /// It counts.
    #[serde(deserialize_with = "empty")]
    pub enabled: bool,
    /// The password; empty = the one before.
    #[serde(deserialize_with = "secret")]
    pub password: Secret<String>,
}

/// One number for all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PinInput {
    /// It counts.
    #[serde(deserialize_with = "empty")]
    pub enabled: bool,
    /// The number; empty = the one before.
    #[serde(deserialize_with = "secret")]
    pub pin: Secret<String>,
}

/// Log in at the identity provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BearerInput {
    /// It counts.
    #[serde(deserialize_with = "empty")]
    pub enabled: bool,
    /// Groups that may pass; none = everybody.
    #[serde(deserialize_with = "empty")]
    pub distribution_groups: Vec<String>,
}

/// A secret in a header.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HeaderInput {
    /// It counts.
    #[serde(deserialize_with = "empty")]
    pub enabled: bool,
    /// Name of the header.
    #[serde(deserialize_with = "empty")]
    pub header: String,
    /// Its value; empty = the one before.
    #[serde(deserialize_with = "secret")]
    pub value: Secret<String>,
}

/// Rules before authentication.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RestrictionsInput {
    /// Ranges that may pass.
    #[serde(deserialize_with = "empty")]
    pub allowed_cidrs: Vec<String>,
    /// Ranges that may not.
    #[serde(deserialize_with = "empty")]
    pub blocked_cidrs: Vec<String>,
    /// Countries that may pass.
    #[serde(deserialize_with = "empty")]
    pub allowed_countries: Vec<String>,
    /// Countries that may not.
    #[serde(deserialize_with = "empty")]
    pub blocked_countries: Vec<String>,
    /// `off`, `enforce`, `observe` or empty.
    #[serde(deserialize_with = "empty")]
    pub crowdsec_mode: String,
}
