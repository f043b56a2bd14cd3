//! How services fare, as proxies report it.

use std::collections::{BTreeMap, HashSet};

use meshgate_proto::{AccountId, ServiceId, ServiceStatus, UnixTime};
use sqlx::{QueryBuilder, Sqlite};

use crate::store::columns::Columns;
use crate::store::{StoreError, Tx};

/// Reports that one statement notes.
const ROWS_PER_STATEMENT: usize = 64;

/// A report on one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// The account that the reporting proxy may speak for; services of others do not exist for it.
    pub account: AccountId,
    /// The service.
    pub service: ServiceId,
    /// How it fares.
    pub status: ServiceStatus,
    /// Why, where that is not good.
    pub message: String,
    /// When it got a certificate, if it did.
    pub certificate_issued_at: Option<UnixTime>,
}

impl Tx {
    /// Notes reports; tells of each, in order, whether its service is there. Of two on one service the later
    /// counts.
    pub async fn set_service_statuses_anywhere(
        &mut self,
        reports: &[StatusReport],
    ) -> Result<Vec<bool>, StoreError> {
        let key = |report: &StatusReport| (report.account.clone(), report.service.clone());
        let latest: BTreeMap<_, &StatusReport> = reports.iter().map(|report| (key(report), report)).collect();
        let latest: Vec<&StatusReport> = latest.into_values().collect();
        let mut found = HashSet::new();
        for reports in latest.chunks(ROWS_PER_STATEMENT) {
            let mut update =
                QueryBuilder::<Sqlite>::new("WITH reports (account, service, word, text, issued) AS (");
            update.push_values(reports, |mut values, report| {
                values
                    .push_bind(report.account.as_str())
                    .push_bind(report.service.as_str())
                    .push_bind(report.status.as_str())
                    .push_bind(report.message.as_str())
                    .push_bind(report.certificate_issued_at.map(UnixTime::as_nanos));
            });
            update.push(
                ") UPDATE services SET status = reports.word, status_message = reports.text, \
                 certificate_issued_at = COALESCE(reports.issued, certificate_issued_at) FROM reports \
                 WHERE services.id = reports.service AND services.account_id = reports.account \
                 RETURNING services.account_id, services.id",
            );
            let usual = reports.len() == 1 || reports.len() == ROWS_PER_STATEMENT;
            for row in &update.build().persistent(usual).fetch_all(self.conn()).await? {
                let row = Columns(row);
                found.insert((row.id("account_id")?, row.id("id")?));
            }
        }
        Ok(reports
            .iter()
            .map(|report| found.contains(&key(report)))
            .collect())
    }
}
