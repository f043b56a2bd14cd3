//! `/api/events/proxy`: pages of access logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use serde::Serialize;

use super::answer::{Answer, moment};
use super::caller::Caller;
use super::error::RestError;
use super::params::Params;
use crate::access_logs::query::{self, LogPage, LogQuery, parse_time};
use crate::state::State;
use crate::store::access_log_pages::{LogColumn, LogDirection, LogFilter, LogOrder, LogOutcome};
use crate::store::access_logs::AccessLogRow;

/// A page as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct PageAnswer {
    data: Vec<EntryAnswer>,
    page: u32,
    page_size: u32,
    total_records: u64,
    total_pages: u64,
}

#[derive(Debug, Serialize)]
struct EntryAnswer {
    id: String,
    service_id: String,
    timestamp: String,
    method: String,
    host: String,
    path: String,
    duration_ms: i64,
    status_code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    auth_method_used: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    country_code: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    city_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subdivision_code: String,
    bytes_upload: u64,
    bytes_download: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    protocol: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl From<AccessLogRow> for EntryAnswer {
    fn from(row: AccessLogRow) -> Self {
        Self {
            id: row.id.into_string(),
            service_id: row.service_id.into_string(),
            timestamp: moment(row.timestamp),
            method: row.method,
            host: row.host,
            path: row.path,
            duration_ms: row.duration_nanos / 1_000_000,
            status_code: row.status_code,
            source_ip: row.source_ip,
            reason: row.reason,
            user_id: row.user_id,
            auth_method_used: row.auth_method_used,
            country_code: row.country_code,
            city_name: row.city_name,
            subdivision_code: row.subdivision_code,
            bytes_upload: row.bytes_upload,
            bytes_download: row.bytes_download,
            protocol: row.protocol,
            metadata: row.metadata,
        }
    }
}

impl From<LogPage> for PageAnswer {
    fn from(page: LogPage) -> Self {
        Self {
            total_pages: page.total_pages(),
            data: page.entries.into_iter().map(EntryAnswer::from).collect(),
            page: page.page,
            page_size: page.page_size,
            total_records: page.total_records,
        }
    }
}

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    params: Params,
) -> Result<Answer<PageAnswer>, RestError> {
    let page = query::list(&state.store, &state.at_rest, &actor, log_query(&params)).await?;
    Ok(Answer(page.into()))
}

/// What is not understood counts as not given.
fn log_query(params: &Params) -> LogQuery {
    let direction = params.parsed("sort_order", |word| match word {
        "asc" => Some(LogDirection::Ascending),
        "desc" => Some(LogDirection::Descending),
        _ => None,
    });
    let outcome = params.parsed("status", |word| match word {
        "success" => Some(LogOutcome::Success),
        "failed" => Some(LogOutcome::Failed),
        _ => None,
    });
    LogQuery {
        page: params
            .parsed("page", |text| text.parse().ok())
            .unwrap_or_default(),
        page_size: params
            .parsed("page_size", |text| text.parse().ok())
            .unwrap_or_default(),
        order: LogOrder {
            by: params.parsed("sort_by", LogColumn::from_word).unwrap_or_default(),
            direction: direction.unwrap_or_default(),
        },
        user_email: params.text("user_email"),
        user_name: params.text("user_name"),
        filter: LogFilter {
            service: None,
            search: params.text("search"),
            source_ip: params.text("source_ip"),
            host: params.text("host"),
            path: params.text("path"),
            method: params.text("method"),
            user_id: params.text("user_id"),
            users: Vec::new(),
            outcome,
            status_code: params.parsed("status_code", |text| text.parse().ok()),
            start: params.parsed("start_date", parse_time),
            end: params.parsed("end_date", parse_time),
        },
    }
}
