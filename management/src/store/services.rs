//! Services and their targets.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use meshgate_proto::{AccountId, DomainName, PeerId, ServiceId, ServiceMode, ServiceStatus, UnixTime};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text, opt_nanos};
use crate::store::service_records::{ServiceRecord, ServiceRow, TargetRow, service_row, target_row};
use crate::store::{Store, StoreError, Tx};

impl Store {
    /// A service by id.
    pub async fn service(&self, scope: &Scope, id: &ServiceId) -> Result<Option<ServiceRecord>, StoreError> {
        let mut conn = self.reader().acquire().await?;
        service(&mut conn, scope, id).await
    }

    /// All services, oldest first.
    pub async fn services(&self, scope: &Scope) -> Result<Vec<ServiceRecord>, StoreError> {
        let mut conn = self.reader().acquire().await?;
        let rows = sqlx::query("SELECT * FROM services WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(&mut *conn)
            .await?;
        let targets =
            sqlx::query("SELECT * FROM targets WHERE account_id = $1 ORDER BY service_id, position")
                .bind(scope.account().as_str())
                .fetch_all(&mut *conn)
                .await?;
        let mut by_service: HashMap<ServiceId, Vec<TargetRow>> = HashMap::new();
        for row in &targets {
            let target = target_row(row)?;
            by_service
                .entry(target.service_id.clone())
                .or_default()
                .push(target);
        }
        rows.iter()
            .map(|row| {
                let service = service_row(row)?;
                let targets = by_service.remove(&service.id).unwrap_or_default();
                Ok(ServiceRecord { service, targets })
            })
            .collect()
    }

    /// The overlay addresses of the peers that services of the account lead to, by target.
    pub async fn target_addresses(&self, scope: &Scope) -> Result<HashMap<String, Ipv4Addr>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT targets.target_id, peers.ip FROM targets JOIN peers ON peers.id = targets.target_id \
             AND peers.account_id = targets.account_id WHERE targets.account_id = $1 AND targets.target_type = 'peer'",
        )
        .bind(scope.account().as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(target_address).collect()
    }

    /// The overlay addresses of the peers that a service leads to, by target.
    pub async fn target_addresses_of_service(
        &self,
        scope: &Scope,
        id: &ServiceId,
    ) -> Result<HashMap<String, Ipv4Addr>, StoreError> {
        let rows = sqlx::query(
            "SELECT targets.target_id, peers.ip FROM targets JOIN peers ON peers.id = targets.target_id \
             AND peers.account_id = targets.account_id \
             WHERE targets.service_id = $2 AND targets.account_id = $1 AND targets.target_type = 'peer'",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(target_address).collect()
    }

    /// The service that answers to a host, in whatever account.
    pub async fn service_by_domain_anywhere(
        &self,
        domain: &DomainName,
    ) -> Result<Option<ServiceRecord>, StoreError> {
        let mut conn = self.reader().acquire().await?;
        let row = sqlx::query("SELECT * FROM services WHERE domain = $1")
            .bind(domain.as_str())
            .fetch_optional(&mut *conn)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let service = service_row(&row)?;
        let targets = targets(&mut conn, &service.id).await?;
        Ok(Some(ServiceRecord { service, targets }))
    }

    /// A page of the services that a cluster is to serve, by id: enabled, not terminated, of one account or of all.
    ///
    /// `after` is the last id of the page before; a page with fewer than `limit` is the last.
    pub async fn cluster_services_anywhere(
        &self,
        cluster: &str,
        account: Option<&AccountId>,
        after: Option<&ServiceId>,
        limit: u32,
    ) -> Result<Vec<ServiceRecord>, StoreError> {
        let mut conn = self.reader().acquire().await?;
        let after = after.map_or("", ServiceId::as_str);
        let query = match account {
            Some(account) => sqlx::query(
                "SELECT * FROM services WHERE account_id = $1 AND proxy_cluster = $2 AND id > $3 \
                 AND enabled = TRUE AND terminated = FALSE ORDER BY id LIMIT $4",
            )
            .bind(account.as_str()),
            None => sqlx::query(
                "SELECT * FROM services WHERE proxy_cluster = $1 AND id > $2 \
                 AND enabled = TRUE AND terminated = FALSE ORDER BY id LIMIT $3",
            ),
        };
        let rows = query
            .bind(cluster)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *conn)
            .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let service = service_row(row)?;
            let targets = targets(&mut conn, &service.id).await?;
            records.push(ServiceRecord { service, targets });
        }
        Ok(records)
    }

    /// A page of the ids of the services that lead to a peer or a resource, by id; `after` as in
    /// [`Store::cluster_services_anywhere`].
    pub async fn services_with_target(
        &self,
        scope: &Scope,
        target: &str,
        after: Option<&ServiceId>,
        limit: u32,
    ) -> Result<Vec<ServiceId>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT service_id FROM targets WHERE account_id = $1 AND target_id = $2 AND service_id > $3 \
             ORDER BY service_id LIMIT $4",
        )
        .bind(scope.account().as_str())
        .bind(target)
        .bind(after.map_or("", ServiceId::as_str))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(|row| Columns(row).id("service_id")).collect()
    }
}

impl Tx {
    /// A service by id, as this transaction sees it.
    pub async fn service(
        &mut self,
        scope: &Scope,
        id: &ServiceId,
    ) -> Result<Option<ServiceRecord>, StoreError> {
        service(self.conn(), scope, id).await
    }

    /// Whether a host is taken, in whatever account.
    pub async fn domain_taken_anywhere(&mut self, domain: &DomainName) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM services WHERE domain = $1")
            .bind(domain.as_str())
            .fetch_optional(self.conn())
            .await?;
        Ok(found.is_some())
    }

    /// Whether another service of the cluster has that port in that mode.
    pub async fn port_taken_anywhere(
        &mut self,
        cluster: &str,
        mode: ServiceMode,
        port: u16,
        except: &ServiceId,
    ) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM services WHERE proxy_cluster = $1 AND mode = $2 AND listen_port = $3 AND id <> $4 LIMIT 1",
        )
        .bind(cluster)
        .bind(mode.as_str())
        .bind(i64::from(port))
        .bind(except.as_str())
        .fetch_optional(self.conn())
        .await?;
        Ok(found.is_some())
    }

    /// The ports of a cluster in a mode, in order.
    pub async fn ports_of_cluster_anywhere(
        &mut self,
        cluster: &str,
        mode: ServiceMode,
    ) -> Result<Vec<u16>, StoreError> {
        let rows = sqlx::query(
            "SELECT listen_port FROM services WHERE proxy_cluster = $1 AND mode = $2 AND listen_port > 0 \
             ORDER BY listen_port",
        )
        .bind(cluster)
        .bind(mode.as_str())
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| Columns(row).number("listen_port"))
            .collect()
    }

    /// The first service that leads to a peer.
    pub async fn service_using_peer(
        &mut self,
        scope: &Scope,
        peer: &PeerId,
    ) -> Result<Option<ServiceId>, StoreError> {
        let row = sqlx::query(
            "SELECT service_id FROM targets WHERE account_id = $1 AND target_id = $2 AND target_type = 'peer' \
             ORDER BY service_id LIMIT 1",
        )
        .bind(scope.account().as_str())
        .bind(peer.as_str())
        .fetch_optional(self.conn())
        .await?;
        row.as_ref().map(|row| Columns(row).id("service_id")).transpose()
    }

    /// Keeps a new service with its targets.
    pub async fn insert_service(&mut self, record: &ServiceRecord) -> Result<(), StoreError> {
        let service = &record.service;
        sqlx::query(
            "INSERT INTO services (id, account_id, name, domain, proxy_cluster, enabled, terminated, \
             pass_host_header, rewrite_redirects, auth, restrictions, created_at, certificate_issued_at, status, \
             status_message, last_renewed_at, session_private_key, session_public_key, source, source_peer, mode, \
             listen_port, port_auto_assigned, private, access_groups) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
             $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)",
        )
        .bind(service.id.as_str())
        .bind(service.account_id.as_str())
        .bind(&service.name)
        .bind(service.domain.as_str())
        .bind(&service.proxy_cluster)
        .bind(service.enabled)
        .bind(service.terminated)
        .bind(service.pass_host_header)
        .bind(service.rewrite_redirects)
        .bind(json_text(&service.auth))
        .bind(json_text(&service.restrictions))
        .bind(service.created_at.as_nanos())
        .bind(opt_nanos(service.certificate_issued_at))
        .bind(service.status.as_str())
        .bind(&service.status_message)
        .bind(opt_nanos(service.last_renewed_at))
        .bind(&service.session_private_key)
        .bind(&service.session_public_key)
        .bind(service.source.as_str())
        .bind(service.source_peer.as_ref().map(PeerId::as_str))
        .bind(service.mode.as_str())
        .bind(i64::from(service.listen_port))
        .bind(service.port_auto_assigned)
        .bind(service.private)
        .bind(json_text(&service.access_groups))
        .execute(self.conn())
        .await?;
        self.insert_targets(&record.targets).await
    }

    /// Replaces what an owner may change of a service, and its targets.
    ///
    /// Status, keys, origin and mode stay as they are. Tells whether the service was there.
    pub async fn update_service(
        &mut self,
        scope: &Scope,
        record: &ServiceRecord,
    ) -> Result<bool, StoreError> {
        let service = &record.service;
        let done = sqlx::query(
            "UPDATE services SET name = $3, domain = $4, proxy_cluster = $5, enabled = $6, pass_host_header = $7, \
             rewrite_redirects = $8, auth = $9, restrictions = $10, listen_port = $11, port_auto_assigned = $12, \
             private = $13, access_groups = $14 WHERE account_id = $1 AND id = $2",
        )
        .bind(scope.account().as_str())
        .bind(service.id.as_str())
        .bind(&service.name)
        .bind(service.domain.as_str())
        .bind(&service.proxy_cluster)
        .bind(service.enabled)
        .bind(service.pass_host_header)
        .bind(service.rewrite_redirects)
        .bind(json_text(&service.auth))
        .bind(json_text(&service.restrictions))
        .bind(i64::from(service.listen_port))
        .bind(service.port_auto_assigned)
        .bind(service.private)
        .bind(json_text(&service.access_groups))
        .execute(self.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM targets WHERE service_id = $1")
            .bind(service.id.as_str())
            .execute(self.conn())
            .await?;
        self.insert_targets(&record.targets).await?;
        Ok(true)
    }

    /// Notes how a service fares; tells whether it is there.
    pub async fn set_service_status(
        &mut self,
        scope: &Scope,
        id: &ServiceId,
        status: ServiceStatus,
        message: &str,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE services SET status = $3, status_message = $4 WHERE account_id = $1 AND id = $2",
        )
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .bind(status.as_str())
        .bind(message)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that a service got a certificate.
    pub async fn set_certificate_issued(
        &mut self,
        scope: &Scope,
        id: &ServiceId,
        at: UnixTime,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE services SET certificate_issued_at = $3 WHERE account_id = $1 AND id = $2")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .bind(at.as_nanos())
            .execute(self.conn())
            .await?;
        Ok(())
    }

    /// Removes a service and its targets; gives back what it was.
    pub async fn delete_service(
        &mut self,
        scope: &Scope,
        id: &ServiceId,
    ) -> Result<Option<ServiceRow>, StoreError> {
        let row = sqlx::query("DELETE FROM services WHERE account_id = $1 AND id = $2 RETURNING *")
            .bind(scope.account().as_str())
            .bind(id.as_str())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(service_row).transpose()
    }

    async fn insert_targets(&mut self, targets: &[TargetRow]) -> Result<(), StoreError> {
        for (position, target) in targets.iter().enumerate() {
            sqlx::query(
                "INSERT INTO targets (id, account_id, service_id, position, path, host, port, protocol, target_id, \
                 target_type, enabled, options) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            )
            .bind(target.id.as_str())
            .bind(target.account_id.as_str())
            .bind(target.service_id.as_str())
            .bind(i64::try_from(position).unwrap_or(i64::MAX))
            .bind(&target.path)
            .bind(&target.host)
            .bind(i64::from(target.port))
            .bind(target.protocol.as_str())
            .bind(&target.target_id)
            .bind(target.target_type.as_str())
            .bind(target.enabled)
            .bind(json_text(&target.options))
            .execute(self.conn())
            .await?;
        }
        Ok(())
    }
}

fn target_address(row: &SqliteRow) -> Result<(String, Ipv4Addr), StoreError> {
    let row = Columns(row);
    let address = row.parsed("ip", |text| text.parse().ok())?;
    Ok((row.text("target_id")?, address))
}

async fn service(
    conn: &mut SqliteConnection,
    scope: &Scope,
    id: &ServiceId,
) -> Result<Option<ServiceRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM services WHERE account_id = $1 AND id = $2")
        .bind(scope.account().as_str())
        .bind(id.as_str())
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let service = service_row(&row)?;
    let targets = targets(conn, &service.id).await?;
    Ok(Some(ServiceRecord { service, targets }))
}

async fn targets(conn: &mut SqliteConnection, service: &ServiceId) -> Result<Vec<TargetRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM targets WHERE service_id = $1 ORDER BY position")
        .bind(service.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(target_row).collect()
}
