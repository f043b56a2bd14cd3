//! Peers: machines and proxies of the overlay.

use std::net::{Ipv4Addr, Ipv6Addr};

use meshgate_proto::{AccountId, PeerId, UnixTime, UserId, WgPublicKey};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::Columns;
use crate::store::{Store, StoreError, Tx};

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
}

impl Tx {
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
