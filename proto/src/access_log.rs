//! One finished request or connection, as proxies report it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::{AccessLogId, AccountId, ServiceId, UnixTime, UserId};

/// A line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// When the request ended.
    pub timestamp: UnixTime,
    /// Also the request id that error pages show.
    pub id: AccessLogId,
    /// Empty when no service matched.
    pub account_id: AccountId,
    /// Empty when no service matched.
    pub service_id: ServiceId,
    /// Host the client asked for.
    pub host: String,
    /// Path without query.
    pub path: String,
    /// From the first byte of the request to the end of the answer.
    pub duration: Duration,
    /// Method; empty below HTTP.
    pub method: String,
    /// Status; 0 below HTTP.
    pub response_code: u16,
    /// The client, if known.
    pub source_ip: Option<IpAddr>,
    /// Scheme or restriction that decided; empty when none did.
    pub auth_mechanism: String,
    /// Who passed; empty when nobody was asked.
    pub user_id: UserId,
    /// False for 401 and 403.
    pub auth_success: bool,
    /// Body bytes from the client.
    pub bytes_upload: u64,
    /// Body bytes to the client.
    pub bytes_download: u64,
    /// http, tcp, tls or udp.
    pub protocol: String,
    /// Further facts.
    pub metadata: BTreeMap<String, String>,
    /// Set by language-model gateways.
    pub agent_network: bool,
}
