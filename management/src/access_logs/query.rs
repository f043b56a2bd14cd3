//! What operators ask of the access logs: pages of them, filtered and sorted.

use meshgate_proto::UnixTime;

use crate::actor::Actor;
use crate::authz::{Module, Operation, require};
use crate::error::UseCaseError;
use crate::secrets::AtRest;
use crate::store::Store;
use crate::store::access_log_pages::{LogFilter, LogOrder};
use crate::store::access_logs::AccessLogRow;

/// Entries on a page, unless another number is asked for.
pub const DEFAULT_PAGE_SIZE: u32 = 50;
/// Most entries on a page.
pub const MAX_PAGE_SIZE: u32 = 100;

/// A question. What is empty does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Which page, from 1; 0 = the first.
    pub page: u32,
    /// Entries on a page; 0 = [`DEFAULT_PAGE_SIZE`], at most [`MAX_PAGE_SIZE`].
    pub page_size: u32,
    /// By what they are sorted.
    pub order: LogOrder,
    /// E-mail address of the user, whole.
    pub user_email: String,
    /// Name of the user, whole.
    pub user_name: String,
    /// Everything else.
    pub filter: LogFilter,
}

/// A page of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The entries.
    pub entries: Vec<AccessLogRow>,
    /// Which page it is.
    pub page: u32,
    /// How many entries a page has.
    pub page_size: u32,
    /// How many entries fit the question.
    pub total_records: u64,
}

impl LogPage {
    /// How many pages there are.
    pub fn total_pages(&self) -> u64 {
        self.total_records.div_ceil(u64::from(self.page_size.max(1)))
    }
}

/// Answers a question.
pub async fn list(
    store: &Store,
    at_rest: &AtRest,
    actor: &Actor,
    mut query: LogQuery,
) -> Result<LogPage, UseCaseError> {
    require(actor, Module::Services, Operation::Read)?;
    let page = query.page.max(1);
    let page_size = match query.page_size {
        0 => DEFAULT_PAGE_SIZE,
        size => size.min(MAX_PAGE_SIZE),
    };
    let empty = LogPage {
        entries: Vec::new(),
        page,
        page_size,
        total_records: 0,
    };
    if !query.user_email.is_empty() || !query.user_name.is_empty() {
        let users = matching_users(store, at_rest, actor, &query).await?;
        if users.is_empty() {
            return Ok(empty);
        }
        query.filter.users = users;
    }
    let total_records = store.count_access_logs(actor.scope(), &query.filter).await?;
    let offset = u64::from(page - 1) * u64::from(page_size);
    let entries = store
        .access_log_page(actor.scope(), &query.filter, query.order, page_size, offset)
        .await?;
    Ok(LogPage {
        entries,
        total_records,
        ..empty
    })
}

/// Names and addresses are encrypted, so they are compared here.
async fn matching_users(
    store: &Store,
    at_rest: &AtRest,
    actor: &Actor,
    query: &LogQuery,
) -> Result<Vec<String>, UseCaseError> {
    let mut users = Vec::new();
    for user in store.users(actor.scope()).await? {
        let email = at_rest.unseal(&user.email).map_err(UseCaseError::internal)?;
        let name = at_rest.unseal(&user.name).map_err(UseCaseError::internal)?;
        let email_fits =
            query.user_email.is_empty() || email.expose().eq_ignore_ascii_case(&query.user_email);
        let name_fits = query.user_name.is_empty() || *name.expose() == query.user_name;
        if email_fits && name_fits {
            users.push(user.id.into_string());
        }
    }
    Ok(users)
}

/// Reads a moment such as `2026-01-01T00:00:00Z`.
pub fn parse_time(text: &str) -> Option<UnixTime> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    let nanos = i64::try_from(time.unix_timestamp_nanos()).ok()?;
    Some(UnixTime::from_nanos(nanos))
}
