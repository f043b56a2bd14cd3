//! Who somebody is: users behind session tokens, peers behind overlay addresses.

use std::net::IpAddr;

use meshgate_proto::pb::management as pb;
use meshgate_proto::{AccountId, DomainName, GroupId, ServiceId, UserId};
use tonic::Status;

use super::login::session_key;
use super::{ProxySide, internal};
use crate::actor::Scope;
use crate::grpc::proxy_auth::ProxyCaller;
use crate::session::{LoginMethod, Session, SessionGroup};
use crate::store::groups::ALL;
use crate::store::peers::PeerRow;
use crate::store::service_records::{ServiceAuth, ServiceRow};
use crate::store::users::UserRow;

/// Where a browser begins an OIDC login. There is no identity provider to send it to.
pub(super) async fn oidc_url(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: &pb::GetOidcurlRequest,
) -> Result<pb::GetOidcurlResponse, Status> {
    let scope = caller.scope_of(&AccountId::new(&*message.account_id))?;
    let redirect = url::Url::parse(&message.redirect_url)
        .map_err(|error| Status::invalid_argument(format!("redirect_url: {error}")))?;
    if !matches!(redirect.scheme(), "http" | "https") {
        return Err(Status::invalid_argument("redirect URL must use http or https"));
    }
    let record = side
        .state
        .store
        .service(&scope, &ServiceId::new(&*message.id))
        .await
        .map_err(internal)?;
    let domain = record.map(|record| record.service.domain);
    let own_host = domain
        .zip(redirect.host_str())
        .is_some_and(|(domain, host)| domain.as_str() == host);
    if !own_host {
        return Err(Status::failed_precondition(
            "service not found for this redirect URL",
        ));
    }
    Err(Status::failed_precondition(
        "no identity provider is configured; use a password, a PIN or a header secret",
    ))
}

/// Checks the session of a user against his present state.
pub(super) async fn validate_session(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: &pb::ValidateSessionRequest,
) -> Result<pb::ValidateSessionResponse, Status> {
    if message.domain.is_empty() || message.session_token.is_empty() {
        return Ok(no_session("missing domain or session_token"));
    }
    let Some((service, scope)) = service_of(side, caller, &message.domain).await? else {
        return Ok(no_session("service_not_found"));
    };
    let key = session_key(side, &service)?;
    let Ok(session) = key.verify(&message.session_token, &service.domain, side.state.clock.now()) else {
        return Ok(no_session("invalid_token"));
    };
    let user = side
        .state
        .store
        .user_anywhere(&session.subject)
        .await
        .map_err(internal)?;
    let Some(user) = user else {
        return Ok(no_session("user_not_found"));
    };
    if user.account_id != *scope.account() {
        return Ok(no_session("account_mismatch"));
    }
    let groups = auto_groups(side, &scope, &user).await?;
    let ids: Vec<&GroupId> = groups.iter().map(|group| &group.id).collect();
    let all = side
        .state
        .store
        .group_by_name(&scope, ALL)
        .await
        .map_err(internal)?
        .map(|group| group.id);
    let wanted = bearer_groups(&service.auth).unwrap_or_default();
    // Every active user counts as a member of the group of all.
    let member = wanted.is_empty()
        || wanted
            .iter()
            .any(|id| ids.contains(&id) || all.as_ref() == Some(id));
    let denied_reason = blocked(&user).or((!member).then_some("not_in_group"));
    Ok(pb::ValidateSessionResponse {
        valid: denied_reason.is_none(),
        user_id: user.id.to_string(),
        user_email: session.email,
        denied_reason: denied_reason.unwrap_or_default().to_owned(),
        peer_group_ids: groups.iter().map(|group| group.id.to_string()).collect(),
        peer_group_names: groups.into_iter().map(|group| group.name).collect(),
    })
}

/// Finds out who calls through the tunnel, and whether a service lets him in by that alone.
pub(super) async fn validate_tunnel_peer(
    side: &ProxySide,
    caller: &ProxyCaller,
    message: &pb::ValidateTunnelPeerRequest,
) -> Result<pb::ValidateTunnelPeerResponse, Status> {
    if message.domain.is_empty() || message.tunnel_ip.is_empty() {
        return Ok(no_peer("missing domain or tunnel_ip"));
    }
    let Ok(address) = message.tunnel_ip.parse::<IpAddr>() else {
        return Ok(no_peer("invalid_tunnel_ip"));
    };
    let Some((service, scope)) = service_of(side, caller, &message.domain).await? else {
        return Ok(no_peer("service_not_found"));
    };
    let peer = side
        .state
        .store
        .peer_by_address(&scope, address)
        .await
        .map_err(internal)?;
    let Some(peer) = peer else {
        return Ok(no_peer("peer_not_found"));
    };
    if let Some(reason) = not_admitted(&peer) {
        return Ok(no_peer(reason));
    }
    let identity = match owner(side, &scope, &peer).await? {
        Ok(identity) => identity,
        Err(reason) => return Ok(no_peer(reason)),
    };
    let groups = side
        .state
        .store
        .named_groups_of_peer(&scope, &peer.id)
        .await
        .map_err(internal)?;
    let admitted = admits(&service, &groups);
    let session = Session {
        method: LoginMethod::Oidc,
        groups,
        ..identity
    };
    let session_token = if admitted {
        session_key(side, &service)?.sign(&session, &service.domain, side.state.clock.now())
    } else {
        String::new()
    };
    Ok(pb::ValidateTunnelPeerResponse {
        valid: admitted,
        user_id: session.subject.to_string(),
        user_email: session.email,
        denied_reason: if admitted {
            String::new()
        } else {
            "not_in_group".to_owned()
        },
        session_token,
        peer_group_ids: session.groups.iter().map(|group| group.id.to_string()).collect(),
        peer_group_names: session.groups.into_iter().map(|group| group.name).collect(),
    })
}

/// The service of a domain, if the caller may act for its tenant.
async fn service_of(
    side: &ProxySide,
    caller: &ProxyCaller,
    domain: &str,
) -> Result<Option<(ServiceRow, Scope)>, Status> {
    let Ok(domain) = DomainName::new(domain) else {
        return Ok(None);
    };
    let record = side
        .state
        .store
        .service_by_domain_anywhere(&domain)
        .await
        .map_err(internal)?;
    let served = record.filter(|record| record.service.enabled && !record.service.terminated);
    let Some(record) = served else { return Ok(None) };
    let scope = caller.scope_of(&record.service.account_id)?;
    Ok(Some((record.service, scope)))
}

/// Whether being that peer is enough.
///
/// A private service wants one of its groups; so does one with bearer login that names groups, and one that
/// names none takes any peer. A service without schemes is open anyway. Where only a password, a PIN or a header
/// secret opens, being in the mesh replaces none of them.
fn admits(service: &ServiceRow, groups: &[SessionGroup]) -> bool {
    let in_any = |wanted: &[GroupId]| groups.iter().any(|group| wanted.contains(&group.id));
    if service.private {
        return in_any(&service.access_groups);
    }
    match bearer_groups(&service.auth) {
        Some([]) => true,
        Some(wanted) => in_any(wanted),
        None => !has_shared_secret(&service.auth),
    }
}

/// The groups of bearer login, if it is on.
fn bearer_groups(auth: &ServiceAuth) -> Option<&[GroupId]> {
    auth.bearer
        .as_ref()
        .filter(|bearer| bearer.enabled)
        .map(|bearer| bearer.groups.as_slice())
}

fn has_shared_secret(auth: &ServiceAuth) -> bool {
    let on = |scheme: &Option<_>| {
        scheme
            .as_ref()
            .is_some_and(|scheme: &crate::store::service_records::StoredSecret| scheme.enabled)
    };
    on(&auth.password) || on(&auth.pin) || auth.headers.iter().any(|header| header.enabled)
}

/// Tunnels of proxies are nobody's peers, and peers that may not be in the mesh do not count.
fn not_admitted(peer: &PeerRow) -> Option<&'static str> {
    if peer.proxy_embedded {
        Some("peer_not_found")
    } else if peer.requires_approval {
        Some("pending_approval")
    } else {
        peer.login_expired.then_some("login_expired")
    }
}

/// The user a peer belongs to, or the peer itself; the reason when the user may do nothing.
async fn owner(
    side: &ProxySide,
    scope: &Scope,
    peer: &PeerRow,
) -> Result<Result<Session, &'static str>, Status> {
    let identity = |subject, email| Session {
        subject,
        method: LoginMethod::Oidc,
        email,
        groups: Vec::new(),
    };
    let Some(user) = &peer.user_id else {
        return Ok(Ok(identity(UserId::new(peer.id.as_str()), peer.name.clone())));
    };
    let user = side.state.store.user(scope, user).await.map_err(internal)?;
    let Some(user) = user else {
        return Ok(Err("user_not_found"));
    };
    if let Some(reason) = blocked(&user) {
        return Ok(Err(reason));
    }
    let email = side.state.at_rest.unseal(&user.email).map_err(|error| {
        tracing::error!(user.id = %user.id, error = &error as &dyn std::error::Error, "E-mail of a user is unreadable");
        Status::internal("user cannot be read")
    })?;
    Ok(Ok(identity(user.id, email.expose().clone())))
}

async fn auto_groups(side: &ProxySide, scope: &Scope, user: &UserRow) -> Result<Vec<SessionGroup>, Status> {
    let mut groups = Vec::new();
    for id in &user.auto_groups {
        let group = side
            .state
            .store
            .group(scope, &GroupId::new(&**id))
            .await
            .map_err(internal)?;
        groups.extend(group.map(|group| SessionGroup {
            id: group.id,
            name: group.name,
        }));
    }
    Ok(groups)
}

fn blocked(user: &UserRow) -> Option<&'static str> {
    if user.blocked {
        Some("user_blocked")
    } else {
        user.pending_approval.then_some("pending_approval")
    }
}

fn no_session(reason: &str) -> pb::ValidateSessionResponse {
    pb::ValidateSessionResponse {
        denied_reason: reason.to_owned(),
        ..pb::ValidateSessionResponse::default()
    }
}

fn no_peer(reason: &str) -> pb::ValidateTunnelPeerResponse {
    pb::ValidateTunnelPeerResponse {
        denied_reason: reason.to_owned(),
        ..pb::ValidateTunnelPeerResponse::default()
    }
}
