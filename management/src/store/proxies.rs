//! Proxies that are or were connected.

use meshgate_proto::{AccountId, ProxyCapabilities, ProxyId, UnixTime};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Tx};
use crate::actor::Scope;

const COLUMNS: &str = "id, session_id, cluster_address, ip_address, account_id, last_seen, connected_at, \
     disconnected_at, status, version, supports_custom_ports, require_subdomain, supports_crowdsec, private, \
     supports_private_services";

/// A proxy as it last introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRow {
    /// Chosen by the proxy.
    pub id: ProxyId,
    /// Changes with each connection, so that an old connection's end does not close a newer one's row.
    pub session_id: String,
    /// The cluster it belongs to.
    pub cluster_address: String,
    /// Where it connects from.
    pub ip_address: String,
    /// Whose proxy it is; none = it serves everybody.
    pub account: Option<AccountId>,
    /// Last sign of life.
    pub last_seen: UnixTime,
    /// Start of the connection.
    pub connected_at: UnixTime,
    /// End of the connection.
    pub disconnected_at: Option<UnixTime>,
    /// The connection stood at the last sign of life.
    pub connected: bool,
    /// Its program version.
    pub version: String,
    /// What it can do.
    pub capabilities: ProxyCapabilities,
}

impl Store {
    /// Connected proxies that serve this account, its own and shared ones, seen since `since`.
    pub async fn proxies_serving(&self, scope: &Scope, since: UnixTime) -> Result<Vec<ProxyRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM proxies \
             WHERE (account_id = $1 OR account_id IS NULL) AND status = 'connected' AND last_seen >= $2 \
             ORDER BY cluster_address, id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(scope.account().as_str())
            .bind(since.as_nanos())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(proxy).collect()
    }

    /// All proxies of this account, connected or not.
    pub async fn proxies(&self, scope: &Scope) -> Result<Vec<ProxyRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM proxies WHERE account_id = $1 ORDER BY cluster_address, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(proxy).collect()
    }
}

impl Tx {
    /// True when a proxy of another account, or a shared one, has this cluster address.
    pub async fn cluster_is_foreign(&mut self, scope: &Scope, address: &str) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 AS found FROM proxies \
             WHERE cluster_address = $1 AND (account_id IS NULL OR account_id <> $2) LIMIT 1",
        )
        .bind(address)
        .bind(scope.account().as_str())
        .fetch_optional(self.conn())
        .await?;
        Ok(row.is_some())
    }

    /// Whose row stands under this proxy id, if there is one. The inner `None` is a shared proxy.
    pub async fn proxy_owner_anywhere(
        &mut self,
        id: &ProxyId,
    ) -> Result<Option<Option<AccountId>>, StoreError> {
        let row = sqlx::query("SELECT account_id FROM proxies WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.conn())
            .await?;
        let owner = row.map(|row| row.try_get::<Option<String>, _>("account_id"));
        Ok(owner.transpose()?.map(|account| account.map(AccountId::new)))
    }

    /// Writes a proxy's row as a whole.
    pub async fn put_proxy_anywhere(&mut self, proxy: &ProxyRow) -> Result<(), StoreError> {
        let capabilities = proxy.capabilities;
        sqlx::query(
            "INSERT INTO proxies (id, session_id, cluster_address, ip_address, account_id, last_seen, connected_at, \
             disconnected_at, status, version, supports_custom_ports, require_subdomain, supports_crowdsec, private, \
             supports_private_services) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
             ON CONFLICT (id) DO UPDATE SET session_id = excluded.session_id, \
             cluster_address = excluded.cluster_address, ip_address = excluded.ip_address, \
             account_id = excluded.account_id, last_seen = excluded.last_seen, \
             connected_at = excluded.connected_at, disconnected_at = excluded.disconnected_at, \
             status = excluded.status, version = excluded.version, \
             supports_custom_ports = excluded.supports_custom_ports, \
             require_subdomain = excluded.require_subdomain, supports_crowdsec = excluded.supports_crowdsec, \
             private = excluded.private, supports_private_services = excluded.supports_private_services",
        )
        .bind(proxy.id.as_str())
        .bind(&proxy.session_id)
        .bind(&proxy.cluster_address)
        .bind(&proxy.ip_address)
        .bind(proxy.account.as_ref().map(AccountId::as_str))
        .bind(proxy.last_seen.as_nanos())
        .bind(proxy.connected_at.as_nanos())
        .bind(proxy.disconnected_at.map(UnixTime::as_nanos))
        .bind(if proxy.connected { "connected" } else { "disconnected" })
        .bind(&proxy.version)
        .bind(capabilities.custom_ports)
        .bind(capabilities.require_subdomain)
        .bind(capabilities.crowdsec)
        .bind(capabilities.private)
        .bind(capabilities.private_services)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Marks a proxy as gone, unless a newer connection of it stands.
    pub async fn disconnect_proxy_anywhere(
        &mut self,
        id: &ProxyId,
        session_id: &str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE proxies SET status = 'disconnected', disconnected_at = $3, last_seen = $3 \
             WHERE id = $1 AND session_id = $2",
        )
        .bind(id.as_str())
        .bind(session_id)
        .bind(now.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Marks every proxy as gone: after a start nobody is connected yet.
    pub async fn disconnect_all_proxies_anywhere(&mut self, now: UnixTime) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE proxies SET status = 'disconnected', disconnected_at = $1 WHERE status = 'connected'",
        )
        .bind(now.as_nanos())
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Forgets proxies that were last seen before `before`; tells how many.
    pub async fn delete_stale_proxies_anywhere(&mut self, before: UnixTime) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM proxies WHERE last_seen < $1")
            .bind(before.as_nanos())
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected())
    }
}

fn proxy(row: &SqliteRow) -> Result<ProxyRow, StoreError> {
    Ok(ProxyRow {
        id: ProxyId::new(row.try_get::<String, _>("id")?),
        session_id: row.try_get("session_id")?,
        cluster_address: row.try_get("cluster_address")?,
        ip_address: row.try_get("ip_address")?,
        account: row
            .try_get::<Option<String>, _>("account_id")?
            .map(AccountId::new),
        last_seen: UnixTime::from_nanos(row.try_get("last_seen")?),
        connected_at: UnixTime::from_nanos(row.try_get("connected_at")?),
        disconnected_at: row
            .try_get::<Option<i64>, _>("disconnected_at")?
            .map(UnixTime::from_nanos),
        connected: row.try_get::<String, _>("status")? == "connected",
        version: row.try_get("version")?,
        capabilities: ProxyCapabilities {
            custom_ports: row.try_get("supports_custom_ports")?,
            require_subdomain: row.try_get("require_subdomain")?,
            crowdsec: row.try_get("supports_crowdsec")?,
            private: row.try_get("private")?,
            private_services: row.try_get("supports_private_services")?,
        },
    })
}
