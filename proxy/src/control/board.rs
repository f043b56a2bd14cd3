//! From routes, tunnels and certificates to one status per service.

use std::fmt;
use std::sync::Arc;

use meshgate_certs::CertResolver;
use meshgate_proto::{AccountId, DomainName, ServiceId, ServiceStatus, StatusUpdate};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::report::Reporter;
use crate::tunnels::{TunnelObserver, TunnelState};

/// Everything that the status of a service depends on.
pub(crate) struct StatusBoard {
    reporter: Arc<Reporter>,
    certificates: Arc<CertResolver>,
    board: Mutex<Board>,
}

#[derive(Debug, Default)]
struct Board {
    services: FxHashMap<ServiceId, Row>,
    by_account: FxHashMap<AccountId, FxHashSet<ServiceId>>,
    tunnels: FxHashMap<AccountId, TunnelState>,
}

#[derive(Debug)]
struct Row {
    account: AccountId,
    subject: Subject,
    reported: Option<StatusUpdate>,
}

/// What a status is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A service that is served.
    Served {
        /// Its host.
        domain: DomainName,
        /// It has targets behind the tunnel.
        tunnelled: bool,
    },
    /// A service that cannot be served, and why.
    Broken(String),
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusBoard").finish_non_exhaustive()
    }
}

impl StatusBoard {
    /// An empty board.
    pub(crate) fn new(reporter: Arc<Reporter>, certificates: Arc<CertResolver>) -> Self {
        Self {
            reporter,
            certificates,
            board: Mutex::default(),
        }
    }

    /// A service is new, changed or broken: it is reported even if its status is as before.
    pub(crate) fn put(&self, service: &ServiceId, account: &AccountId, subject: Subject) {
        let mut board = self.board.lock();
        board.forget(service);
        let Board {
            services,
            by_account,
            tunnels,
        } = &mut *board;
        by_account
            .entry(account.clone())
            .or_default()
            .insert(service.clone());
        let row = Row {
            account: account.clone(),
            subject,
            reported: None,
        };
        services.insert(service.clone(), row);
        if let Some(row) = services.get_mut(service) {
            self.evaluate(service, row, tunnels);
        }
    }

    /// A service is gone.
    pub(crate) fn remove(&self, service: &ServiceId) {
        let mut board = self.board.lock();
        if let Some(row) = board.forget(service) {
            self.reporter.report(update(
                service,
                &row.account,
                ServiceStatus::TunnelNotCreated,
                None,
            ));
        }
    }

    /// Services and tunnels that are kept, as a number.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let board = self.board.lock();
        board.services.len() + board.by_account.len() + board.tunnels.len()
    }

    /// Certificates changed.
    pub(crate) fn certificates_changed(&self) {
        let mut board = self.board.lock();
        let Board {
            services, tunnels, ..
        } = &mut *board;
        for (service, row) in services {
            self.evaluate(service, row, tunnels);
        }
    }

    fn evaluate(&self, service: &ServiceId, row: &mut Row, tunnels: &FxHashMap<AccountId, TunnelState>) {
        let tunnel = tunnels.get(&row.account).unwrap_or(&TunnelState::Opening);
        let covered = |domain: &DomainName| self.certificates.covers(domain);
        let status = status(service, &row.account, &row.subject, tunnel, covered);
        let Some(status) = status else { return };
        if row.reported.as_ref() != Some(&status) {
            row.reported = Some(status.clone());
            self.reporter.report(status);
        }
    }
}

impl Board {
    fn forget(&mut self, service: &ServiceId) -> Option<Row> {
        let row = self.services.remove(service)?;
        if let Some(of_account) = self.by_account.get_mut(&row.account) {
            of_account.remove(service);
            if of_account.is_empty() {
                self.by_account.remove(&row.account);
            }
        }
        Some(row)
    }
}

impl TunnelObserver for StatusBoard {
    fn tunnel_changed(&self, account: &AccountId, state: &TunnelState) {
        let mut board = self.board.lock();
        board.tunnels.insert(account.clone(), state.clone());
        let Board {
            services,
            by_account,
            tunnels,
        } = &mut *board;
        for service in by_account.get(account).into_iter().flatten() {
            if let Some(row) = services.get_mut(service) {
                self.evaluate(service, row, tunnels);
            }
        }
    }

    fn tunnel_closed(&self, account: &AccountId) {
        self.board.lock().tunnels.remove(account);
    }
}

/// The status of one service; `None` while it is not known yet.
fn status(
    service: &ServiceId,
    account: &AccountId,
    subject: &Subject,
    tunnel: &TunnelState,
    covered: impl FnOnce(&DomainName) -> bool,
) -> Option<StatusUpdate> {
    let (domain, tunnelled) = match subject {
        Subject::Broken(reason) => {
            return Some(update(
                service,
                account,
                ServiceStatus::Error,
                Some(reason.clone()),
            ));
        }
        Subject::Served { domain, tunnelled } => (domain, *tunnelled),
    };
    match tunnel {
        TunnelState::Opening if tunnelled => return None,
        TunnelState::Failed(reason) if tunnelled => {
            return Some(update(
                service,
                account,
                ServiceStatus::TunnelNotCreated,
                Some(reason.clone()),
            ));
        }
        TunnelState::Opening | TunnelState::Failed(_) | TunnelState::Ready => {}
    }
    if !covered(domain) {
        let reason = format!("the proxy has no certificate for {domain}");
        return Some(update(
            service,
            account,
            ServiceStatus::CertificateFailed,
            Some(reason),
        ));
    }
    let active = update(service, account, ServiceStatus::Active, None);
    Some(StatusUpdate {
        certificate_issued: true,
        ..active
    })
}

fn update(
    service: &ServiceId,
    account: &AccountId,
    status: ServiceStatus,
    error_message: Option<String>,
) -> StatusUpdate {
    StatusUpdate {
        service_id: service.clone(),
        account_id: account.clone(),
        status,
        certificate_issued: false,
        error_message,
        inbound_listener: None,
    }
}

#[cfg(test)]
mod tests {
    use meshgate_certs::CertStore;

    use super::*;

    fn board() -> (StatusBoard, Arc<Reporter>) {
        let reporter = Arc::new(Reporter::default());
        let resolver = Arc::new(CertResolver::new(Arc::new(CertStore::new())));
        (StatusBoard::new(Arc::clone(&reporter), resolver), reporter)
    }

    fn waiting(reporter: &Reporter) -> Vec<(String, ServiceStatus)> {
        let waiting = std::mem::take(&mut *reporter.waiting.lock());
        waiting
            .into_iter()
            .map(|(id, update)| (id.into_string(), update.status))
            .collect()
    }

    fn served() -> Subject {
        Subject::Served {
            domain: DomainName::new("app.test").unwrap(),
            tunnelled: true,
        }
    }

    #[test]
    fn a_served_service_waits_for_its_tunnel_and_names_what_is_missing() {
        let (board, reporter) = board();
        let (service, account) = (ServiceId::new("s1"), AccountId::new("a1"));

        board.put(&service, &account, served());
        assert!(waiting(&reporter).is_empty());

        board.tunnel_changed(&account, &TunnelState::Failed("no".into()));
        assert_eq!(
            waiting(&reporter),
            [("s1".into(), ServiceStatus::TunnelNotCreated)]
        );

        board.tunnel_changed(&account, &TunnelState::Ready);
        assert_eq!(
            waiting(&reporter),
            [("s1".into(), ServiceStatus::CertificateFailed)]
        );

        board.tunnel_changed(&account, &TunnelState::Ready);
        assert!(waiting(&reporter).is_empty());
    }

    #[test]
    fn a_covered_service_with_a_tunnel_is_active() {
        let service = ServiceId::new("s1");

        let status = status(
            &service,
            &AccountId::new("a1"),
            &served(),
            &TunnelState::Ready,
            |_| true,
        )
        .unwrap();

        assert_eq!(status.status, ServiceStatus::Active);
        assert!(status.certificate_issued);
    }

    #[test]
    fn the_latest_word_counts() {
        let (board, reporter) = board();
        let (service, account) = (ServiceId::new("s1"), AccountId::new("a1"));

        board.put(&service, &account, Subject::Broken("mode".into()));
        board.remove(&service);
        board.put(&service, &account, Subject::Broken("mode".into()));

        assert_eq!(waiting(&reporter), [("s1".into(), ServiceStatus::Error)]);
    }

    #[test]
    fn other_accounts_are_not_concerned() {
        let (board, reporter) = board();
        board.put(&ServiceId::new("s1"), &AccountId::new("a1"), served());

        board.tunnel_changed(&AccountId::new("a2"), &TunnelState::Failed("no".into()));

        assert!(waiting(&reporter).is_empty());
    }
}
