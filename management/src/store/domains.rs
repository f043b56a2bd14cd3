//! Custom domains: names an account brought along, and the cluster they lead to.

use meshgate_proto::{AccountId, UnixTime};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::Columns;
use crate::store::{Store, StoreError};

/// One custom domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRow {
    /// Its id.
    pub id: String,
    /// The name, in lower case.
    pub domain: String,
    /// Whose it is.
    pub account_id: AccountId,
    /// Where it leads.
    pub target_cluster: String,
    /// Its owner has proved that it is his.
    pub validated: bool,
    /// When it was added.
    pub created_at: UnixTime,
}

fn domain_row(row: &SqliteRow) -> Result<DomainRow, StoreError> {
    let row = Columns(row);
    Ok(DomainRow {
        id: row.text("id")?,
        domain: row.text("domain")?,
        account_id: row.id("account_id")?,
        target_cluster: row.text("target_cluster")?,
        validated: row.flag("validated")?,
        created_at: row.time("created_at")?,
    })
}

impl Store {
    /// The account's custom domains, oldest first.
    pub async fn domains(&self, scope: &Scope) -> Result<Vec<DomainRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM domains WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(domain_row).collect()
    }
}
