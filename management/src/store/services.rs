//! Services and their targets, read; how they change is in [`service_changes`](super::service_changes).

use std::collections::HashMap;
use std::net::Ipv4Addr;

use meshgate_proto::{AccountId, DomainName, ServiceId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::Columns;
use crate::store::service_records::{ServiceRecord, ServiceRow, TargetRow, service_row, target_row};
use crate::store::{Store, StoreError};

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
        let mut by_service = by_service(&targets)?;
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
        let services = rows.iter().map(service_row).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = services.last() else {
            return Ok(Vec::new());
        };
        let mut by_service = page_targets(&mut conn, cluster, account, after, &last.id).await?;
        let record = |service: ServiceRow| ServiceRecord {
            targets: by_service.remove(&service.id).unwrap_or_default(),
            service,
        };
        Ok(services.into_iter().map(record).collect())
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

fn target_address(row: &SqliteRow) -> Result<(String, Ipv4Addr), StoreError> {
    let row = Columns(row);
    let address = row.parsed("ip", |text| text.parse().ok())?;
    Ok((row.text("target_id")?, address))
}

pub(super) async fn service(
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

/// Targets of the services of a page that goes from behind one id to another.
async fn page_targets(
    conn: &mut SqliteConnection,
    cluster: &str,
    account: Option<&AccountId>,
    after: &str,
    last: &ServiceId,
) -> Result<HashMap<ServiceId, Vec<TargetRow>>, StoreError> {
    let query = match account {
        Some(account) => sqlx::query(
            "SELECT * FROM targets WHERE service_id IN (SELECT id FROM services WHERE account_id = $1 \
             AND proxy_cluster = $2 AND id > $3 AND id <= $4 AND enabled = TRUE AND terminated = FALSE) \
             ORDER BY service_id, position",
        )
        .bind(account.as_str()),
        None => sqlx::query(
            "SELECT * FROM targets WHERE service_id IN (SELECT id FROM services WHERE proxy_cluster = $1 \
             AND id > $2 AND id <= $3 AND enabled = TRUE AND terminated = FALSE) ORDER BY service_id, position",
        ),
    };
    let rows = query.bind(cluster).bind(after).bind(last.as_str());
    by_service(&rows.fetch_all(conn).await?)
}

/// Targets by their service, in the order of the rows.
fn by_service(rows: &[SqliteRow]) -> Result<HashMap<ServiceId, Vec<TargetRow>>, StoreError> {
    let mut by_service: HashMap<ServiceId, Vec<TargetRow>> = HashMap::new();
    for row in rows {
        let target = target_row(row)?;
        by_service
            .entry(target.service_id.clone())
            .or_default()
            .push(target);
    }
    Ok(by_service)
}

async fn targets(conn: &mut SqliteConnection, service: &ServiceId) -> Result<Vec<TargetRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM targets WHERE service_id = $1 ORDER BY position")
        .bind(service.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(target_row).collect()
}
