//! Access logs as they are stored.

use std::collections::BTreeMap;

use meshgate_proto::{AccessLogId, AccountId, ServiceId, UnixTime};
use sqlx::sqlite::SqliteRow;

use crate::store::StoreError;
use crate::store::columns::Columns;

/// One request or connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogRow {
    /// Made by the proxy.
    pub id: AccessLogId,
    /// Its account.
    pub account_id: AccountId,
    /// Its service.
    pub service_id: ServiceId,
    /// When it began.
    pub timestamp: UnixTime,
    /// HTTP method.
    pub method: String,
    /// Host asked for.
    pub host: String,
    /// Path asked for, without query.
    pub path: String,
    /// How long it took, in nanoseconds.
    pub duration_nanos: i64,
    /// Status of the answer.
    pub status_code: u16,
    /// Who asked; empty = not known.
    pub source_ip: String,
    /// Why it failed; empty = it did not.
    pub reason: String,
    /// User, if one logged in.
    pub user_id: String,
    /// How.
    pub auth_method_used: String,
    /// Country of the source.
    pub country_code: String,
    /// City of the source.
    pub city_name: String,
    /// Part of that country.
    pub subdivision_code: String,
    /// Bytes from the client.
    pub bytes_upload: u64,
    /// Bytes to the client.
    pub bytes_download: u64,
    /// What it spoke.
    pub protocol: String,
    /// More, by name.
    pub metadata: BTreeMap<String, String>,
    /// It was a call of the agent network.
    pub agent_network: bool,
}

pub(crate) fn access_log_row(row: &SqliteRow) -> Result<AccessLogRow, StoreError> {
    let row = Columns(row);
    Ok(AccessLogRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        service_id: row.id("service_id")?,
        timestamp: row.time("timestamp")?,
        method: row.text("method")?,
        host: row.text("host")?,
        path: row.text("path")?,
        duration_nanos: row.number("duration")?,
        status_code: row.number("status_code")?,
        source_ip: row.text("source_ip")?,
        reason: row.text("reason")?,
        user_id: row.text("user_id")?,
        auth_method_used: row.text("auth_method_used")?,
        country_code: row.text("country_code")?,
        city_name: row.text("city_name")?,
        subdivision_code: row.text("subdivision_code")?,
        bytes_upload: row.number("bytes_upload")?,
        bytes_download: row.number("bytes_download")?,
        protocol: row.text("protocol")?,
        metadata: row.json("metadata")?,
        agent_network: row.flag("agent_network")?,
    })
}
