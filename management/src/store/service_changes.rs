//! Changes of services, and the reads that must agree with them.

use meshgate_proto::{DomainName, PeerId, ServiceId, ServiceMode};

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text, opt_nanos};
use crate::store::service_records::{ServiceRecord, ServiceRow, TargetRow, service_row};
use crate::store::services::service;
use crate::store::{StoreError, Tx};

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
             private = $13, access_groups = $14, session_private_key = $15, session_public_key = $16 WHERE account_id = $1 AND id = $2",
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
        .bind(&service.session_private_key)
        .bind(&service.session_public_key)
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
