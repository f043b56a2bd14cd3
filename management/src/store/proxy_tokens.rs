//! Tokens with which proxies call.

use meshgate_proto::{AccountId, TokenId, UnixTime};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Tx};
use crate::actor::Scope;

const COLUMNS: &str =
    "id, name, hashed_token, account_id, expires_at, created_by, created_at, last_used, revoked";

/// A proxy token; of the token itself only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyTokenRow {
    /// Its id.
    pub id: TokenId,
    /// Chosen by the operator; need not be unique.
    pub name: String,
    /// Standard base64 of the SHA-256 of the whole token.
    pub hashed_token: String,
    /// Whose services it serves; none = everybody's.
    pub account_id: Option<AccountId>,
    /// End of its life; none = never.
    pub expires_at: Option<UnixTime>,
    /// Who made it: a user id, or `CLI`.
    pub created_by: String,
    /// When.
    pub created_at: UnixTime,
    /// Last use, to the minute.
    pub last_used: Option<UnixTime>,
    /// It opens nothing any more.
    pub revoked: bool,
}

impl ProxyTokenRow {
    /// True while it opens something.
    pub fn is_valid(&self, now: UnixTime) -> bool {
        !self.revoked && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl Store {
    /// The account's tokens in order of creation, revoked ones too.
    pub async fn proxy_tokens(&self, scope: &Scope) -> Result<Vec<ProxyTokenRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM proxy_access_tokens WHERE account_id = $1 ORDER BY created_at, id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(token).collect()
    }

    /// Every token in order of creation, for the command line.
    pub async fn proxy_tokens_anywhere(&self) -> Result<Vec<ProxyTokenRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM proxy_access_tokens ORDER BY created_at, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(token).collect()
    }

    /// The token with this hash, valid or not.
    pub async fn proxy_token_by_hash_anywhere(
        &self,
        hash: &str,
    ) -> Result<Option<ProxyTokenRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM proxy_access_tokens WHERE hashed_token = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(hash)
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(token).transpose()
    }

    /// The token with this id, valid or not.
    pub async fn proxy_token_anywhere(&self, id: &TokenId) -> Result<Option<ProxyTokenRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM proxy_access_tokens WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(token).transpose()
    }
}

impl Tx {
    /// Adds a token.
    pub async fn insert_proxy_token(&mut self, token: &ProxyTokenRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO proxy_access_tokens (id, name, hashed_token, account_id, expires_at, created_by, \
             created_at, last_used, revoked) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(token.id.as_str())
        .bind(&token.name)
        .bind(&token.hashed_token)
        .bind(token.account_id.as_ref().map(AccountId::as_str))
        .bind(token.expires_at.map(UnixTime::as_nanos))
        .bind(&token.created_by)
        .bind(token.created_at.as_nanos())
        .bind(token.last_used.map(UnixTime::as_nanos))
        .bind(token.revoked)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Revokes a token of the account; false when there is none of that id.
    pub async fn revoke_proxy_token(&mut self, scope: &Scope, id: &TokenId) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE proxy_access_tokens SET revoked = TRUE WHERE id = $1 AND account_id = $2")
                .bind(id.as_str())
                .bind(scope.account().as_str())
                .execute(self.conn())
                .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Revokes any token; false when there is none of that id.
    pub async fn revoke_proxy_token_anywhere(&mut self, id: &TokenId) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE proxy_access_tokens SET revoked = TRUE WHERE id = $1")
            .bind(id.as_str())
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes a use.
    pub async fn touch_proxy_token_anywhere(
        &mut self,
        id: &TokenId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE proxy_access_tokens SET last_used = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(now.as_nanos())
            .execute(self.conn())
            .await?;
        Ok(())
    }
}

fn token(row: &SqliteRow) -> Result<ProxyTokenRow, StoreError> {
    let time =
        |column: &str| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(UnixTime::from_nanos));
    Ok(ProxyTokenRow {
        id: TokenId::new(row.try_get::<String, _>("id")?),
        name: row.try_get("name")?,
        hashed_token: row.try_get("hashed_token")?,
        account_id: row
            .try_get::<Option<String>, _>("account_id")?
            .map(AccountId::new),
        expires_at: time("expires_at")?,
        created_by: row.try_get("created_by")?,
        created_at: UnixTime::from_nanos(row.try_get("created_at")?),
        last_used: time("last_used")?,
        revoked: row.try_get("revoked")?,
    })
}
