//! Users of accounts: people and programs.

use meshgate_proto::{AccountId, UnixTime, UserId};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::authz::Role;
use crate::store::columns::{Columns, json_text, opt_nanos};
use crate::store::{Store, StoreError, Tx};

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// His id, as the identity provider names him.
    pub id: UserId,
    /// His account.
    pub account_id: AccountId,
    /// What he may do.
    pub role: Role,
    /// He is a program.
    pub is_service_user: bool,
    /// He cannot be removed.
    pub non_deletable: bool,
    /// Name of the program.
    pub service_user_name: String,
    /// Groups his peers get.
    pub auto_groups: Vec<String>,
    /// He may do nothing.
    pub blocked: bool,
    /// He waits for approval.
    pub pending_approval: bool,
    /// When he last logged in.
    pub last_login: Option<UnixTime>,
    /// When he was added.
    pub created_at: UnixTime,
    /// `api`, `jwt` or `integration`.
    pub issued: String,
    /// His name, encrypted.
    pub name: String,
    /// His e-mail address, encrypted.
    pub email: String,
}

fn user_row(row: &SqliteRow) -> Result<UserRow, StoreError> {
    let row = Columns(row);
    Ok(UserRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        role: row.parsed("role", Role::from_word)?,
        is_service_user: row.flag("is_service_user")?,
        non_deletable: row.flag("non_deletable")?,
        service_user_name: row.text("service_user_name")?,
        auto_groups: row.json("auto_groups")?,
        blocked: row.flag("blocked")?,
        pending_approval: row.flag("pending_approval")?,
        last_login: row.opt_time("last_login")?,
        created_at: row.time("created_at")?,
        issued: row.text("issued")?,
        name: row.text("name")?,
        email: row.text("email")?,
    })
}

impl Store {
    /// A user by id.
    pub async fn user(&self, scope: &Scope, id: &UserId) -> Result<Option<UserRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(user_row).transpose()
    }

    /// A user by id, with his account.
    pub async fn user_anywhere(&self, id: &UserId) -> Result<Option<UserRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(user_row).transpose()
    }

    /// All users, oldest first.
    pub async fn users(&self, scope: &Scope) -> Result<Vec<UserRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM users WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(user_row).collect()
    }
}

impl Tx {
    /// Keeps a new user.
    pub async fn insert_user(&mut self, user: &UserRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO users (id, account_id, role, is_service_user, non_deletable, service_user_name, \
             auto_groups, blocked, pending_approval, last_login, created_at, issued, name, email) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(user.id.as_str())
        .bind(user.account_id.as_str())
        .bind(user.role.as_str())
        .bind(user.is_service_user)
        .bind(user.non_deletable)
        .bind(&user.service_user_name)
        .bind(json_text(&user.auto_groups))
        .bind(user.blocked)
        .bind(user.pending_approval)
        .bind(opt_nanos(user.last_login))
        .bind(user.created_at.as_nanos())
        .bind(&user.issued)
        .bind(&user.name)
        .bind(&user.email)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
