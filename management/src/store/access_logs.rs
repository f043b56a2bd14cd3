//! Access logs as they are stored.

use std::collections::BTreeMap;

use meshgate_proto::{AccessLogId, AccountId, ServiceId, UnixTime};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use crate::store::columns::{Columns, json_text};
use crate::store::{StoreError, Tx};

/// Rows in one statement; a fixed number keeps the statement prepared.
const ROWS_PER_STATEMENT: usize = 100;

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

impl Tx {
    /// Adds entries. One whose id is there already is left as it is, so a repeated report changes nothing.
    pub async fn insert_access_logs_anywhere(&mut self, entries: &[AccessLogRow]) -> Result<(), StoreError> {
        for rows in entries.chunks(ROWS_PER_STATEMENT) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO access_log_entries (id, account_id, service_id, timestamp, method, host, path, duration, \
                 status_code, source_ip, reason, user_id, auth_method_used, country_code, city_name, \
                 subdivision_code, bytes_upload, bytes_download, protocol, metadata, agent_network) ",
            );
            insert.push_values(rows, |mut values, row| {
                values
                    .push_bind(row.id.as_str())
                    .push_bind(row.account_id.as_str())
                    .push_bind(row.service_id.as_str())
                    .push_bind(row.timestamp.as_nanos())
                    .push_bind(&row.method)
                    .push_bind(&row.host)
                    .push_bind(&row.path)
                    .push_bind(row.duration_nanos)
                    .push_bind(i64::from(row.status_code))
                    .push_bind(&row.source_ip)
                    .push_bind(&row.reason)
                    .push_bind(&row.user_id)
                    .push_bind(&row.auth_method_used)
                    .push_bind(&row.country_code)
                    .push_bind(&row.city_name)
                    .push_bind(&row.subdivision_code)
                    .push_bind(i64::try_from(row.bytes_upload).unwrap_or(i64::MAX))
                    .push_bind(i64::try_from(row.bytes_download).unwrap_or(i64::MAX))
                    .push_bind(&row.protocol)
                    .push_bind(json_text(&row.metadata))
                    .push_bind(row.agent_network);
            });
            insert.push(" ON CONFLICT (id) DO NOTHING");
            let whole = rows.len() == ROWS_PER_STATEMENT;
            insert.build().persistent(whole).execute(self.conn()).await?;
        }
        Ok(())
    }

    /// Forgets at most `limit` entries from before `before`; tells how many.
    pub async fn delete_access_logs_anywhere(
        &mut self,
        before: UnixTime,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM access_log_entries WHERE id IN \
             (SELECT id FROM access_log_entries WHERE timestamp < $1 ORDER BY timestamp LIMIT $2)",
        )
        .bind(before.as_nanos())
        .bind(i64::from(limit))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected())
    }
}
