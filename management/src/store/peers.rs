//! Peers: machines and proxies of the overlay.

mod embedded;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meshgate_proto::{AccountId, PeerId, UnixTime, UserId, WgPublicKey};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text, opt_nanos};
use crate::store::{Store, StoreError, Tx};

pub use embedded::RemovedPeer;
pub use sessions::PeerSession;

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    /// Its id.
    pub id: PeerId,
    /// Its account.
    pub account_id: AccountId,
    /// Its WireGuard key.
    pub key: WgPublicKey,
    /// Its overlay address.
    pub ip: Ipv4Addr,
    /// Its overlay address of the other family.
    pub ipv6: Option<Ipv6Addr>,
    /// What it told about itself.
    pub meta: PeerMeta,
    /// It is the tunnel of a proxy.
    pub proxy_embedded: bool,
    /// Cluster of that proxy; empty otherwise.
    pub proxy_cluster: String,
    /// Its name.
    pub name: String,
    /// Its first label below the account's domain.
    pub dns_label: String,
    /// Its update stream is open.
    pub connected: bool,
    /// When that was last so.
    pub last_seen: UnixTime,
    /// Which stream is meant (nanoseconds); an older one may not say that it is gone.
    pub session_started_at: i64,
    /// Its user has to log in again.
    pub login_expired: bool,
    /// It waits for approval.
    pub requires_approval: bool,
    /// Whose it is; none for peers of setup keys and proxies.
    pub user_id: Option<UserId>,
    /// Its SSH key.
    pub ssh_key: String,
    /// Others may log in to it.
    pub ssh_enabled: bool,
    /// Its user has to log in again after a while.
    pub login_expiration_enabled: bool,
    /// Its user has to log in again when it was idle.
    pub inactivity_expiration_enabled: bool,
    /// When it last logged in.
    pub last_login: Option<UnixTime>,
    /// When it joined.
    pub created_at: UnixTime,
    /// It vanishes when it stays away.
    pub ephemeral: bool,
    /// Where it calls from.
    pub connection_ip: String,
    /// Country of that.
    pub country_code: String,
    /// City of that.
    pub city_name: String,
    /// Number of that city.
    pub geoname_id: u32,
    /// More labels it asked for.
    pub extra_dns_labels: Vec<String>,
    /// It may ask for them.
    pub allow_extra_dns_labels: bool,
}

/// What a peer told about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerMeta {
    /// Host name.
    pub hostname: String,
    /// Operating system as the client's language names it.
    pub go_os: String,
    /// Kernel.
    pub kernel: String,
    /// Core of the system.
    pub core: String,
    /// Processor family.
    pub platform: String,
    /// Operating system.
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// Version of the client.
    pub agent_version: String,
    /// Version of its user interface.
    pub ui_version: String,
    /// Version of the kernel.
    pub kernel_version: String,
    /// Serial number of the machine.
    pub serial_number: String,
    /// Name of the product.
    pub product_name: String,
    /// Its maker.
    pub manufacturer: String,
    /// Switches of the client.
    pub flags: PeerFlags,
    /// What the client understands, as numbers of the protocol.
    pub capabilities: Vec<i32>,
}

/// Switches of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the REST API and say it")]
pub struct PeerFlags {
    pub rosenpass_enabled: bool,
    pub rosenpass_permissive: bool,
    pub server_ssh_allowed: bool,
    pub disable_client_routes: bool,
    pub disable_server_routes: bool,
    pub disable_dns: bool,
    pub disable_firewall: bool,
    pub block_lan_access: bool,
    pub block_inbound: bool,
    pub lazy_connection_enabled: bool,
    pub disable_ipv6: bool,
}

pub(crate) fn peer_row(row: &SqliteRow) -> Result<PeerRow, StoreError> {
    let row = Columns(row);
    let ipv6 = row.opt_text("ipv6")?;
    Ok(PeerRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        key: row.parsed("key", |text| text.parse().ok())?,
        ip: row.parsed("ip", |text| text.parse().ok())?,
        ipv6: ipv6
            .map(|text| text.parse().map_err(|_| StoreError::Corrupt { column: "ipv6" }))
            .transpose()?,
        meta: row.json("meta")?,
        proxy_embedded: row.flag("proxy_embedded")?,
        proxy_cluster: row.text("proxy_cluster")?,
        name: row.text("name")?,
        dns_label: row.text("dns_label")?,
        connected: row.flag("connected")?,
        last_seen: row.time("last_seen")?,
        session_started_at: row.number("session_started_at")?,
        login_expired: row.flag("login_expired")?,
        requires_approval: row.flag("requires_approval")?,
        user_id: row.opt_id("user_id")?,
        ssh_key: row.text("ssh_key")?,
        ssh_enabled: row.flag("ssh_enabled")?,
        login_expiration_enabled: row.flag("login_expiration_enabled")?,
        inactivity_expiration_enabled: row.flag("inactivity_expiration_enabled")?,
        last_login: row.opt_time("last_login")?,
        created_at: row.time("created_at")?,
        ephemeral: row.flag("ephemeral")?,
        connection_ip: row.text("connection_ip")?,
        country_code: row.text("country_code")?,
        city_name: row.text("city_name")?,
        geoname_id: row.number("geoname_id")?,
        extra_dns_labels: row.json("extra_dns_labels")?,
        allow_extra_dns_labels: row.flag("allow_extra_dns_labels")?,
    })
}

impl Store {
    /// A peer by id.
    pub async fn peer(&self, scope: &Scope, id: &PeerId) -> Result<Option<PeerRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM peers WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(peer_row).transpose()
    }

    /// All peers, oldest first.
    pub async fn peers(&self, scope: &Scope) -> Result<Vec<PeerRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM peers WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(self.reader())
            .await?;
        rows.iter().map(peer_row).collect()
    }

    /// The keys of all peers.
    pub async fn peer_keys_anywhere(&self) -> Result<HashSet<WgPublicKey>, StoreError> {
        let rows = sqlx::query("SELECT key FROM peers")
            .fetch_all(self.reader())
            .await?;
        rows.iter()
            .map(|row| Columns(row).parsed("key", |text| text.parse().ok()))
            .collect()
    }

    /// A peer by its key, with its account.
    pub async fn peer_by_key_anywhere(&self, key: &WgPublicKey) -> Result<Option<PeerRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM peers WHERE key = $1")
            .bind(key.to_string())
            .fetch_optional(self.reader())
            .await?;
        row.as_ref().map(peer_row).transpose()
    }
}

impl Tx {
    /// A peer by its key, as this transaction sees it.
    pub async fn peer_by_key_anywhere(&mut self, key: &WgPublicKey) -> Result<Option<PeerRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM peers WHERE key = $1")
            .bind(key.to_string())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(peer_row).transpose()
    }

    /// Whether an overlay address is taken.
    pub async fn overlay_address_taken(
        &mut self,
        scope: &Scope,
        address: IpAddr,
    ) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM peers WHERE account_id = $1 AND (ip = $2 OR ipv6 = $2) LIMIT 1",
        )
        .bind(scope.account().as_str())
        .bind(address.to_string())
        .fetch_optional(self.conn())
        .await?;
        Ok(found.is_some())
    }

    /// All overlay addresses of version 4 that are taken.
    pub async fn overlay_addresses(&mut self, scope: &Scope) -> Result<Vec<Ipv4Addr>, StoreError> {
        let rows = sqlx::query("SELECT ip FROM peers WHERE account_id = $1")
            .bind(scope.account().as_str())
            .fetch_all(self.conn())
            .await?;
        rows.iter()
            .map(|row| Columns(row).parsed("ip", |text| text.parse().ok()))
            .collect()
    }

    /// Whether a label is the name of a peer.
    pub async fn dns_label_taken(&mut self, scope: &Scope, label: &str) -> Result<bool, StoreError> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM peers WHERE account_id = $1 AND dns_label = $2 LIMIT 1")
                .bind(scope.account().as_str())
                .bind(label)
                .fetch_optional(self.conn())
                .await?;
        Ok(found.is_some())
    }

    /// Keeps a new peer.
    pub async fn insert_peer(&mut self, peer: &PeerRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO peers (id, account_id, key, ip, ipv6, meta, proxy_embedded, proxy_cluster, name, dns_label, \
             connected, last_seen, session_started_at, login_expired, requires_approval, user_id, ssh_key, \
             ssh_enabled, login_expiration_enabled, inactivity_expiration_enabled, last_login, created_at, \
             ephemeral, connection_ip, country_code, city_name, geoname_id, extra_dns_labels, \
             allow_extra_dns_labels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)",
        )
        .bind(peer.id.as_str())
        .bind(peer.account_id.as_str())
        .bind(peer.key.to_string())
        .bind(peer.ip.to_string())
        .bind(peer.ipv6.map(|ip| ip.to_string()))
        .bind(json_text(&peer.meta))
        .bind(peer.proxy_embedded)
        .bind(&peer.proxy_cluster)
        .bind(&peer.name)
        .bind(&peer.dns_label)
        .bind(peer.connected)
        .bind(peer.last_seen.as_nanos())
        .bind(peer.session_started_at)
        .bind(peer.login_expired)
        .bind(peer.requires_approval)
        .bind(peer.user_id.as_ref().map(UserId::as_str))
        .bind(&peer.ssh_key)
        .bind(peer.ssh_enabled)
        .bind(peer.login_expiration_enabled)
        .bind(peer.inactivity_expiration_enabled)
        .bind(opt_nanos(peer.last_login))
        .bind(peer.created_at.as_nanos())
        .bind(peer.ephemeral)
        .bind(&peer.connection_ip)
        .bind(&peer.country_code)
        .bind(&peer.city_name)
        .bind(i64::from(peer.geoname_id))
        .bind(json_text(&peer.extra_dns_labels))
        .bind(peer.allow_extra_dns_labels)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Keeps what a peer told at a login: its meta data, keys, labels, addresses and the time.
    pub async fn update_peer_login(&mut self, scope: &Scope, peer: &PeerRow) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE peers SET meta = $3, ssh_key = $4, ipv6 = $5, last_login = $6, extra_dns_labels = $7 \
             WHERE account_id = $1 AND id = $2",
        )
        .bind(scope.account().as_str())
        .bind(peer.id.as_str())
        .bind(json_text(&peer.meta))
        .bind(&peer.ssh_key)
        .bind(peer.ipv6.map(|ip| ip.to_string()))
        .bind(opt_nanos(peer.last_login))
        .bind(json_text(&peer.extra_dns_labels))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// A peer by id, as this transaction sees it.
    pub async fn peer(&mut self, scope: &Scope, id: &PeerId) -> Result<Option<PeerRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM peers WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(peer_row).transpose()
    }

    /// Removes a peer; tells whether it was there.
    pub async fn delete_peer(&mut self, scope: &Scope, id: &PeerId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM peers WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected() > 0)
    }
}
