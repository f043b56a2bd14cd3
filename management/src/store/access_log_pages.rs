//! Pages of access logs: the one statement of the store whose text depends on what is asked.
//!
//! Its pieces are literals of this file; everything that comes from a caller is bound.

use meshgate_proto::{ServiceId, UnixTime};
use sqlx::sqlite::Sqlite;
use sqlx::{QueryBuilder, Row as _};

use crate::actor::Scope;
use crate::store::access_logs::{AccessLogRow, access_log_row};
use crate::store::searches::fault;
use crate::store::{Store, StoreError};

/// Which entries are wanted. What is empty does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Those of one service.
    pub service: Option<ServiceId>,
    /// Part of host, path, method, source or user.
    pub search: String,
    /// The source, whole.
    pub source_ip: String,
    /// The host, whole.
    pub host: String,
    /// Part of the path.
    pub path: String,
    /// The method, whole.
    pub method: String,
    /// The user's id, whole.
    pub user_id: String,
    /// One of these users; empty = any.
    pub users: Vec<String>,
    /// How it ended.
    pub outcome: Option<LogOutcome>,
    /// The status of the answer.
    pub status_code: Option<u16>,
    /// Not before.
    pub start: Option<UnixTime>,
    /// Not after.
    pub end: Option<UnixTime>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogOutcome {
    /// With a status of 200 to 399.
    Success,
    /// With another.
    Failed,
}

/// By what entries are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOrder {
    /// The column.
    pub by: LogColumn,
    /// Which end comes first.
    pub direction: LogDirection,
}

/// Which end of the order comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogDirection {
    /// The greatest, the newest.
    #[default]
    Descending,
    /// The smallest, the oldest.
    Ascending,
}

/// A column that entries can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogColumn {
    /// When it began.
    #[default]
    Timestamp,
    /// Host, then path.
    Url,
    /// Host.
    Host,
    /// Path.
    Path,
    /// Method.
    Method,
    /// Status.
    StatusCode,
    /// How long it took.
    Duration,
    /// Source.
    SourceIp,
    /// User.
    UserId,
    /// How he logged in.
    AuthMethod,
    /// Why it failed.
    Reason,
}

impl LogColumn {
    const ALL: [Self; 11] = [
        Self::Timestamp,
        Self::Url,
        Self::Host,
        Self::Path,
        Self::Method,
        Self::StatusCode,
        Self::Duration,
        Self::SourceIp,
        Self::UserId,
        Self::AuthMethod,
        Self::Reason,
    ];

    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Url => "url",
            Self::Host => "host",
            Self::Path => "path",
            Self::Method => "method",
            Self::StatusCode => "status_code",
            Self::Duration => "duration",
            Self::SourceIp => "source_ip",
            Self::UserId => "user_id",
            Self::AuthMethod => "auth_method",
            Self::Reason => "reason",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == word)
    }

    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Timestamp => &["timestamp"],
            Self::Url => &["host", "path"],
            Self::Host => &["host"],
            Self::Path => &["path"],
            Self::Method => &["method"],
            Self::StatusCode => &["status_code"],
            Self::Duration => &["duration"],
            Self::SourceIp => &["source_ip"],
            Self::UserId => &["user_id"],
            Self::AuthMethod => &["auth_method_used"],
            Self::Reason => &["reason"],
        }
    }
}

impl Store {
    /// How many entries fit.
    pub async fn count_access_logs(&self, scope: &Scope, filter: &LogFilter) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM access_log_entries");
        push_filter(&mut query, scope, filter);
        let mut connection = self.searches.begin().await?;
        let row = query.build().fetch_one(&mut *connection).await.map_err(fault)?;
        let count: i64 = row.try_get(0)?;
        Ok(count.unsigned_abs())
    }

    /// A page of the entries that fit.
    pub async fn access_log_page(
        &self,
        scope: &Scope,
        filter: &LogFilter,
        order: LogOrder,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<AccessLogRow>, StoreError> {
        let mut query = QueryBuilder::new("SELECT * FROM access_log_entries");
        push_filter(&mut query, scope, filter);
        push_order(&mut query, order);
        query.push(" LIMIT ").push_bind(i64::from(limit));
        query
            .push(" OFFSET ")
            .push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
        let mut connection = self.searches.begin().await?;
        let rows = query.build().fetch_all(&mut *connection).await.map_err(fault)?;
        rows.iter().map(access_log_row).collect()
    }
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, scope: &Scope, filter: &LogFilter) {
    query.push(" WHERE account_id = ");
    query.push_bind(scope.account().as_str().to_owned());
    let whole = [
        ("source_ip", &filter.source_ip),
        ("host", &filter.host),
        ("method", &filter.method),
        ("user_id", &filter.user_id),
    ];
    for (column, value) in whole {
        if !value.is_empty() {
            query
                .push(" AND ")
                .push(column)
                .push(" = ")
                .push_bind(value.clone());
        }
    }
    if let Some(service) = &filter.service {
        query
            .push(" AND service_id = ")
            .push_bind(service.as_str().to_owned());
    }
    if !filter.path.is_empty() {
        query.push(" AND ");
        push_contains(query, "path", &filter.path);
    }
    push_search(query, &filter.search);
    push_users(query, &filter.users);
    match filter.outcome {
        Some(LogOutcome::Success) => {
            query.push(" AND status_code >= 200 AND status_code < 400");
        }
        Some(LogOutcome::Failed) => {
            query.push(" AND (status_code < 200 OR status_code >= 400)");
        }
        None => {}
    }
    if let Some(code) = filter.status_code {
        query.push(" AND status_code = ").push_bind(i64::from(code));
    }
    if let Some(start) = filter.start {
        query.push(" AND timestamp >= ").push_bind(start.as_nanos());
    }
    if let Some(end) = filter.end {
        query.push(" AND timestamp <= ").push_bind(end.as_nanos());
    }
}

fn push_search(query: &mut QueryBuilder<Sqlite>, search: &str) {
    if search.is_empty() {
        return;
    }
    let columns = ["host", "path", "method", "source_ip", "user_id", "id"];
    for (position, column) in columns.into_iter().enumerate() {
        query.push(if position == 0 { " AND (" } else { " OR " });
        push_contains(query, column, search);
    }
    query.push(")");
}

fn push_users(query: &mut QueryBuilder<Sqlite>, users: &[String]) {
    if users.is_empty() {
        return;
    }
    query.push(" AND user_id IN (");
    for (position, user) in users.iter().enumerate() {
        if position > 0 {
            query.push(", ");
        }
        query.push_bind(user.clone());
    }
    query.push(")");
}

fn push_contains(query: &mut QueryBuilder<Sqlite>, column: &'static str, part: &str) {
    let mut pattern = String::from("%");
    for character in part.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    query
        .push(column)
        .push(" LIKE ")
        .push_bind(pattern)
        .push(" ESCAPE '\\'");
}

fn push_order(query: &mut QueryBuilder<Sqlite>, order: LogOrder) {
    let direction = match order.direction {
        LogDirection::Descending => " DESC",
        LogDirection::Ascending => " ASC",
    };
    query.push(" ORDER BY ");
    for column in order.by.columns() {
        query.push(column).push(direction).push(", ");
    }
    if order.by != LogColumn::Timestamp {
        query.push("timestamp DESC, ");
    }
    query.push("id").push(direction);
}

#[cfg(test)]
mod tests;
