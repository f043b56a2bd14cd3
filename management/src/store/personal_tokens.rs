//! Personal access tokens: what users call the REST API with.

use meshgate_proto::{AccountId, TokenId, UnixTime, UserId};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, opt_nanos};
use crate::store::{Store, StoreError, Tx};

/// One personal access token. The token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalTokenRow {
    /// Its id.
    pub id: TokenId,
    /// Whom it stands for.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: String,
    /// `Token::hash` of it.
    pub hashed_token: String,
    /// When it stops opening anything.
    pub expires_at: UnixTime,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: UnixTime,
    /// When it was last shown, to the minute.
    pub last_used: Option<UnixTime>,
}

/// A token that was found by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPersonalToken {
    /// The token.
    pub token: PersonalTokenRow,
    /// The account of its user.
    pub account_id: AccountId,
}

fn token_row(row: &SqliteRow) -> Result<PersonalTokenRow, StoreError> {
    let row = Columns(row);
    Ok(PersonalTokenRow {
        id: row.id("id")?,
        user_id: row.id("user_id")?,
        name: row.text("name")?,
        hashed_token: row.text("hashed_token")?,
        expires_at: row.time("expires_at")?,
        created_by: row.id("created_by")?,
        created_at: row.time("created_at")?,
        last_used: row.opt_time("last_used")?,
    })
}

impl Store {
    /// A token by the hash of its text.
    pub async fn personal_token_anywhere(
        &self,
        hash: &str,
    ) -> Result<Option<FoundPersonalToken>, StoreError> {
        let row = sqlx::query(
            "SELECT personal_access_tokens.*, users.account_id FROM personal_access_tokens \
             JOIN users ON users.id = personal_access_tokens.user_id WHERE hashed_token = $1",
        )
        .bind(hash)
        .fetch_optional(self.reader())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(FoundPersonalToken {
            token: token_row(&row)?,
            account_id: Columns(&row).id("account_id")?,
        }))
    }

    /// The tokens of a user, oldest first.
    pub async fn personal_tokens(
        &self,
        scope: &Scope,
        user: &UserId,
    ) -> Result<Vec<PersonalTokenRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT personal_access_tokens.* FROM personal_access_tokens \
             JOIN users ON users.id = personal_access_tokens.user_id \
             WHERE users.account_id = $1 AND user_id = $2 ORDER BY personal_access_tokens.created_at, \
             personal_access_tokens.id",
        )
        .bind(scope.account().as_str())
        .bind(user.as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(token_row).collect()
    }
}

impl Tx {
    /// Keeps a new token.
    pub async fn insert_personal_token(&mut self, token: &PersonalTokenRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO personal_access_tokens (id, user_id, name, hashed_token, expires_at, created_by, \
             created_at, last_used) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(token.id.as_str())
        .bind(token.user_id.as_str())
        .bind(&token.name)
        .bind(&token.hashed_token)
        .bind(token.expires_at.as_nanos())
        .bind(token.created_by.as_str())
        .bind(token.created_at.as_nanos())
        .bind(opt_nanos(token.last_used))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Notes that a token was shown.
    pub async fn touch_personal_token(&mut self, id: &TokenId, now: UnixTime) -> Result<(), StoreError> {
        sqlx::query("UPDATE personal_access_tokens SET last_used = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(now.as_nanos())
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Removes a token; tells whether it was there.
    pub async fn delete_personal_token(&mut self, scope: &Scope, id: &TokenId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "DELETE FROM personal_access_tokens WHERE id = $1 AND user_id IN \
             (SELECT id FROM users WHERE account_id = $2)",
        )
        .bind(id.as_str())
        .bind(scope.account().as_str())
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes any token; tells whether it was there. For the command line.
    pub async fn delete_personal_token_anywhere(&mut self, id: &TokenId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM personal_access_tokens WHERE id = $1")
            .bind(id.as_str())
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected() > 0)
    }
}
