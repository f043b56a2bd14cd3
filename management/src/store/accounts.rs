//! Accounts: tenants with their overlay networks and settings.

use meshgate_proto::{AccountId, Cidr, UnixTime, UserId};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text};
use crate::store::{Store, StoreError, Tx};

const DAY: u64 = 24 * 60 * 60;

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// The user it was made for.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: UnixTime,
    /// Mail or DNS domain it belongs to.
    pub domain: String,
    /// `private`, `public` or empty.
    pub domain_category: String,
    /// Name of the overlay network.
    pub network_identifier: String,
    /// IPv4 range of the overlay.
    pub network_v4: Cidr,
    /// IPv6 range of the overlay.
    pub network_v6: Cidr,
    /// Counts the changes of the network.
    pub network_serial: u64,
    /// What its owner chose.
    pub settings: AccountSettings,
}

/// What an owner chose for his account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountSettings {
    /// Peers of people have to log in again after a while.
    pub peer_login_expiration_enabled: bool,
    /// After how many seconds.
    pub peer_login_expiration: u64,
    /// Idle peers of people have to log in again.
    pub peer_inactivity_expiration_enabled: bool,
    /// After how many seconds.
    pub peer_inactivity_expiration: u64,
    /// People with role user see nothing of the account.
    pub regular_users_view_blocked: bool,
    /// Groups of a user are given to his peers.
    pub groups_propagation_enabled: bool,
    /// Groups are taken from identity tokens.
    pub jwt_groups_enabled: bool,
    /// From this claim.
    pub jwt_groups_claim_name: String,
    /// Only these may log in.
    pub jwt_allow_groups: Vec<String>,
    /// Routing peers resolve names.
    pub routing_peer_dns_resolution_enabled: bool,
    /// Domain of the peers' names; empty = the server's.
    pub dns_domain: String,
    /// Peers connect on first use.
    pub lazy_connection_enabled: bool,
    /// New people wait for approval.
    pub user_approval_required: bool,
    /// New peers wait for approval.
    pub peer_approval_enabled: bool,
    /// Version peers are told to bring themselves to.
    pub auto_update_version: String,
    /// Groups whose peers get IPv6; `None` = all.
    pub ipv6_enabled_groups: Option<Vec<String>>,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            peer_login_expiration_enabled: true,
            peer_login_expiration: DAY,
            peer_inactivity_expiration_enabled: false,
            peer_inactivity_expiration: 600,
            regular_users_view_blocked: true,
            groups_propagation_enabled: true,
            jwt_groups_enabled: false,
            jwt_groups_claim_name: String::new(),
            jwt_allow_groups: Vec::new(),
            routing_peer_dns_resolution_enabled: true,
            dns_domain: String::new(),
            lazy_connection_enabled: true,
            user_approval_required: true,
            peer_approval_enabled: false,
            auto_update_version: String::new(),
            ipv6_enabled_groups: None,
        }
    }
}

fn account_row(row: &SqliteRow) -> Result<AccountRow, StoreError> {
    let row = Columns(row);
    Ok(AccountRow {
        id: row.id("id")?,
        created_by: row.id("created_by")?,
        created_at: row.time("created_at")?,
        domain: row.text("domain")?,
        domain_category: row.text("domain_category")?,
        network_identifier: row.text("network_identifier")?,
        network_v4: row.parsed("network_v4", |text| text.parse().ok())?,
        network_v6: row.parsed("network_v6", |text| text.parse().ok())?,
        network_serial: row.number("network_serial")?,
        settings: row.json("settings")?,
    })
}

impl Store {
    /// The account itself.
    pub async fn account(&self, scope: &Scope) -> Result<Option<AccountRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM accounts WHERE id = $1")
            .bind(scope.account().as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(account_row).transpose()
    }

    /// Every account, oldest first.
    pub async fn accounts_anywhere(&self) -> Result<Vec<AccountRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM accounts ORDER BY created_at, id")
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(account_row).collect()
    }
}

impl Tx {
    /// The account itself, as this transaction sees it.
    pub async fn account(&mut self, scope: &Scope) -> Result<Option<AccountRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM accounts WHERE id = $1")
            .bind(scope.account().as_str())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(account_row).transpose()
    }

    /// The oldest account, as this transaction sees it.
    pub async fn first_account_anywhere(&mut self) -> Result<Option<AccountId>, StoreError> {
        let row = sqlx::query("SELECT id FROM accounts ORDER BY created_at, id LIMIT 1")
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(|row| Columns(row).id("id")).transpose()
    }

    /// Keeps a new account.
    pub async fn insert_account(&mut self, account: &AccountRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO accounts (id, created_by, created_at, domain, domain_category, network_identifier, \
             network_v4, network_v6, network_serial, settings) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(account.id.as_str())
        .bind(account.created_by.as_str())
        .bind(account.created_at.as_nanos())
        .bind(&account.domain)
        .bind(&account.domain_category)
        .bind(&account.network_identifier)
        .bind(account.network_v4.to_string())
        .bind(account.network_v6.to_string())
        .bind(i64::try_from(account.network_serial).unwrap_or(i64::MAX))
        .bind(json_text(&account.settings))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Counts one more change of the network and tells the number of it.
    pub async fn bump_network_serial(&mut self, scope: &Scope) -> Result<u64, StoreError> {
        let serial: Option<i64> = sqlx::query_scalar(
            "UPDATE accounts SET network_serial = network_serial + 1 WHERE id = $1 RETURNING network_serial",
        )
        .bind(scope.account().as_str())
        .fetch_optional(self.conn())
        .await?;
        Ok(serial.unwrap_or_default().unsigned_abs())
    }
}
