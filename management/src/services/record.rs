//! Records of services: new ones, and what an operator's wishes make of one that is there.

use meshgate_proto::{ServiceId, ServiceStatus, TargetId, UnixTime, Xid};

use super::check::{CheckedService, CheckedTarget};
use super::protect::HashedAuth;
use crate::actor::Scope;
use crate::error::UseCaseError;
use crate::session::SessionKey;
use crate::state::State;
use crate::store::service_records::{
    ServiceAuth, ServiceRecord, ServiceRow, ServiceSource, StoredHeader, StoredSecret, TargetRow,
};

pub(super) fn new_record(
    state: &State,
    scope: &Scope,
    checked: CheckedService,
    cluster: String,
    now: UnixTime,
) -> ServiceRecord {
    let id = ServiceId::from(Xid::generate(now));
    let key = SessionKey::generate();
    let service = ServiceRow {
        id: id.clone(),
        account_id: scope.account().clone(),
        name: checked.name,
        domain: checked.domain,
        proxy_cluster: cluster,
        enabled: checked.enabled,
        terminated: false,
        pass_host_header: checked.pass_host_header,
        rewrite_redirects: checked.rewrite_redirects,
        auth: ServiceAuth::default(),
        restrictions: checked.restrictions,
        created_at: now,
        certificate_issued_at: None,
        status: ServiceStatus::Pending,
        status_message: String::new(),
        last_renewed_at: None,
        session_private_key: state.at_rest.seal(key.expose_text().expose()),
        session_public_key: key.public_text(),
        source: ServiceSource::Permanent,
        source_peer: None,
        mode: checked.mode,
        listen_port: checked.listen_port,
        port_auto_assigned: false,
        private: checked.private,
        access_groups: checked.access_groups,
    };
    let targets = target_rows(&service, checked.targets, now);
    ServiceRecord { service, targets }
}

/// What the wishes make of a service. When a secret or a scheme of it goes, its session key goes too: whoever
/// logged in with what is gone has to log in again.
pub(super) fn changed_record(
    state: &State,
    before: &ServiceRow,
    checked: CheckedService,
    cluster: String,
    auth: HashedAuth,
) -> Result<ServiceRecord, UseCaseError> {
    let auth = auth.merge(&before.auth)?;
    let revoked = withdraws(&before.auth, &auth);
    let mut service = ServiceRow {
        name: checked.name,
        domain: checked.domain,
        proxy_cluster: cluster,
        enabled: checked.enabled,
        pass_host_header: checked.pass_host_header,
        rewrite_redirects: checked.rewrite_redirects,
        auth,
        restrictions: checked.restrictions,
        listen_port: checked.listen_port,
        port_auto_assigned: false,
        private: checked.private,
        access_groups: checked.access_groups,
        ..before.clone()
    };
    if revoked {
        let key = SessionKey::generate();
        service.session_private_key = state.at_rest.seal(key.expose_text().expose());
        service.session_public_key = key.public_text();
    }
    let targets = target_rows(&service, checked.targets, before.created_at);
    Ok(ServiceRecord { service, targets })
}

/// True when something that opened the service before no longer does.
fn withdraws(before: &ServiceAuth, after: &ServiceAuth) -> bool {
    let gone = |before: &Option<StoredSecret>, after: &Option<StoredSecret>| {
        before
            .as_ref()
            .is_some_and(|secret| secret.enabled && after.as_ref() != Some(secret))
    };
    let bearer_gone = before
        .bearer
        .as_ref()
        .is_some_and(|bearer| bearer.enabled && after.bearer.as_ref() != Some(bearer));
    let header_gone = |header: &StoredHeader| header.enabled && !after.headers.contains(header);
    gone(&before.password, &after.password)
        || gone(&before.pin, &after.pin)
        || bearer_gone
        || before.headers.iter().any(header_gone)
}

fn target_rows(service: &ServiceRow, targets: Vec<CheckedTarget>, now: UnixTime) -> Vec<TargetRow> {
    let row = |target: CheckedTarget| TargetRow {
        id: TargetId::from(Xid::generate(now)),
        account_id: service.account_id.clone(),
        service_id: service.id.clone(),
        path: target.path,
        host: target.host,
        port: target.port,
        protocol: target.protocol,
        target_id: target.target_id,
        target_type: target.target_type,
        enabled: target.enabled,
        options: target.options,
    };
    targets.into_iter().map(row).collect()
}
