//! Setup keys: what lets new peers in.

use meshgate_proto::{AccountId, GroupId, SetupKeyId, UnixTime};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text, opt_nanos};
use crate::store::{Store, StoreError, Tx};

/// How often a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetupKeyKind {
    /// Again and again, up to its limit.
    Reusable,
    /// Once.
    OneOff,
}

impl SetupKeyKind {
    /// The word of the REST API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reusable => "reusable",
            Self::OneOff => "one-off",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Reusable, Self::OneOff]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// One setup key. The key itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupKeyRow {
    /// Its id.
    pub id: SetupKeyId,
    /// The account it lets in.
    pub account_id: AccountId,
    /// Standard base64 of the SHA-256 of the upper-case key.
    pub hashed_key: String,
    /// The key with all but its beginning hidden.
    pub key_secret: String,
    /// What its owner calls it.
    pub name: String,
    /// How often it may be used.
    pub kind: SetupKeyKind,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it stops letting in; none = never.
    pub expires_at: Option<UnixTime>,
    /// When it was last changed.
    pub updated_at: UnixTime,
    /// It lets nobody in any more.
    pub revoked: bool,
    /// How many it let in.
    pub used_times: u64,
    /// When it last let somebody in.
    pub last_used: Option<UnixTime>,
    /// Groups its peers get.
    pub auto_groups: Vec<GroupId>,
    /// How many it may let in; 0 or less = no limit.
    pub usage_limit: i64,
    /// Its peers vanish when they stay away.
    pub ephemeral: bool,
    /// Its peers may ask for more DNS labels.
    pub allow_extra_dns_labels: bool,
}

fn setup_key_row(row: &SqliteRow) -> Result<SetupKeyRow, StoreError> {
    let row = Columns(row);
    Ok(SetupKeyRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        hashed_key: row.text("hashed_key")?,
        key_secret: row.text("key_secret")?,
        name: row.text("name")?,
        kind: row.parsed("type", SetupKeyKind::from_word)?,
        created_at: row.time("created_at")?,
        expires_at: row.opt_time("expires_at")?,
        updated_at: row.time("updated_at")?,
        revoked: row.flag("revoked")?,
        used_times: row.number("used_times")?,
        last_used: row.opt_time("last_used")?,
        auto_groups: row.json("auto_groups")?,
        usage_limit: row.number("usage_limit")?,
        ephemeral: row.flag("ephemeral")?,
        allow_extra_dns_labels: row.flag("allow_extra_dns_labels")?,
    })
}

impl Store {
    /// A key by id.
    pub async fn setup_key(&self, scope: &Scope, id: &SetupKeyId) -> Result<Option<SetupKeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM setup_keys WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(setup_key_row).transpose()
    }

    /// All keys, oldest first.
    pub async fn setup_keys(&self, scope: &Scope) -> Result<Vec<SetupKeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM setup_keys WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(setup_key_row).collect()
    }

    /// A key by [`SetupKeyRow::hashed_key`], with its account.
    pub async fn setup_key_anywhere(&self, hashed_key: &str) -> Result<Option<SetupKeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM setup_keys WHERE hashed_key = $1")
            .bind(hashed_key)
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(setup_key_row).transpose()
    }
}

impl Tx {
    /// A key by id, as this transaction sees it.
    pub async fn setup_key(
        &mut self,
        scope: &Scope,
        id: &SetupKeyId,
    ) -> Result<Option<SetupKeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM setup_keys WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(setup_key_row).transpose()
    }

    /// Keeps a new key.
    pub async fn insert_setup_key(&mut self, key: &SetupKeyRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO setup_keys (id, account_id, hashed_key, key_secret, name, type, created_at, expires_at, \
             updated_at, revoked, used_times, last_used, auto_groups, usage_limit, ephemeral, \
             allow_extra_dns_labels) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(key.id.as_str())
        .bind(key.account_id.as_str())
        .bind(&key.hashed_key)
        .bind(&key.key_secret)
        .bind(&key.name)
        .bind(key.kind.as_str())
        .bind(key.created_at.as_nanos())
        .bind(opt_nanos(key.expires_at))
        .bind(key.updated_at.as_nanos())
        .bind(key.revoked)
        .bind(i64::try_from(key.used_times).unwrap_or(i64::MAX))
        .bind(opt_nanos(key.last_used))
        .bind(json_text(&key.auto_groups))
        .bind(key.usage_limit)
        .bind(key.ephemeral)
        .bind(key.allow_extra_dns_labels)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Changes what can be changed of a key: whether it is revoked, and its groups.
    pub async fn update_setup_key(&mut self, scope: &Scope, key: &SetupKeyRow) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE setup_keys SET revoked = $3, auto_groups = $4, updated_at = $5 \
             WHERE account_id = $1 AND id = $2",
        )
        .bind(scope.account().as_str())
        .bind(key.id.as_str())
        .bind(key.revoked)
        .bind(json_text(&key.auto_groups))
        .bind(key.updated_at.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Counts one use of a key that still lets in at `now`; tells whether it did.
    pub async fn use_setup_key(
        &mut self,
        scope: &Scope,
        id: &SetupKeyId,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE setup_keys SET used_times = used_times + 1, last_used = $3 \
             WHERE account_id = $1 AND id = $2 AND revoked = FALSE AND (expires_at IS NULL OR expires_at > $3) \
             AND (usage_limit <= 0 OR used_times < usage_limit)",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .bind(now.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes a key; tells whether it was there.
    pub async fn delete_setup_key(&mut self, scope: &Scope, id: &SetupKeyId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM setup_keys WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected() > 0)
    }
}
