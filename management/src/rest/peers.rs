//! `/api/peers`.

use std::sync::Arc;

use axum::extract::State as Shared;
use meshgate_proto::{PeerId, UserId};
use serde::Serialize;

use super::answer::{Answer, Done, moment, moment_or_never};
use super::caller::{Caller, Named};
use super::error::RestError;
use super::params::Params;
use crate::peers::{self, PeerFilter, PeerView};
use crate::state::State;
use crate::store::peers::PeerFlags;

/// A peer as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct PeerAnswer {
    id: String,
    name: String,
    created_at: String,
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<String>,
    connection_ip: String,
    connected: bool,
    last_seen: String,
    os: String,
    kernel_version: String,
    geoname_id: u32,
    version: String,
    groups: Vec<GroupInPeer>,
    ssh_enabled: bool,
    user_id: String,
    hostname: String,
    ui_version: String,
    dns_label: String,
    login_expiration_enabled: bool,
    login_expired: bool,
    last_login: String,
    inactivity_expiration_enabled: bool,
    approval_required: bool,
    country_code: String,
    city_name: String,
    serial_number: String,
    extra_dns_labels: Vec<String>,
    ephemeral: bool,
    local_flags: PeerFlags,
}

/// A peer in a list.
#[derive(Debug, Serialize)]
pub(super) struct ListedPeer {
    #[serde(flatten)]
    peer: PeerAnswer,
    accessible_peers_count: u32,
}

#[derive(Debug, Serialize)]
struct GroupInPeer {
    id: String,
    name: String,
    peers_count: u64,
    resources_count: usize,
}

impl From<PeerView> for PeerAnswer {
    fn from(view: PeerView) -> Self {
        let groups = view.groups.into_iter().map(|counted| GroupInPeer {
            id: counted.group.id.into_string(),
            name: counted.group.name,
            peers_count: counted.peers,
            resources_count: counted.group.resources.len(),
        });
        let peer = view.peer;
        let os = match peer.meta.core.as_str() {
            "" => peer.meta.os,
            core => format!("{} {core}", peer.meta.os),
        };
        Self {
            id: peer.id.into_string(),
            name: peer.name,
            created_at: moment(peer.created_at),
            ip: peer.ip.to_string(),
            ipv6: peer.ipv6.map(|address| address.to_string()),
            connection_ip: peer.connection_ip,
            connected: peer.connected,
            last_seen: moment(peer.last_seen),
            os,
            kernel_version: peer.meta.kernel_version,
            geoname_id: peer.geoname_id,
            version: peer.meta.agent_version,
            groups: groups.collect(),
            ssh_enabled: peer.ssh_enabled,
            user_id: peer.user_id.map(UserId::into_string).unwrap_or_default(),
            hostname: peer.meta.hostname,
            ui_version: peer.meta.ui_version,
            dns_label: view.fqdn,
            login_expiration_enabled: peer.login_expiration_enabled,
            login_expired: peer.login_expired,
            last_login: moment_or_never(peer.last_login),
            inactivity_expiration_enabled: peer.inactivity_expiration_enabled,
            approval_required: peer.requires_approval,
            country_code: peer.country_code,
            city_name: peer.city_name,
            serial_number: peer.meta.serial_number,
            extra_dns_labels: peer.extra_dns_labels,
            ephemeral: peer.ephemeral,
            local_flags: peer.meta.flags,
        }
    }
}

pub(super) async fn list(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    params: Params,
) -> Result<Answer<Vec<ListedPeer>>, RestError> {
    let filter = PeerFilter {
        name: params.text("name"),
        ip: params.text("ip"),
    };
    let views = peers::list(&state.store, &state.config.dns_domain, &actor, &filter).await?;
    let listed = views.into_iter().map(|view| ListedPeer {
        peer: view.into(),
        accessible_peers_count: 0,
    });
    Ok(Answer(listed.collect()))
}

pub(super) async fn get(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<PeerAnswer>, RestError> {
    let view = peers::get(&state.store, &state.config.dns_domain, &actor, &PeerId::new(id)).await?;
    Ok(Answer(view.into()))
}

pub(super) async fn delete(
    Caller(actor): Caller,
    Shared(state): Shared<Arc<State>>,
    Named(id): Named,
) -> Result<Answer<Done>, RestError> {
    peers::delete(&state.store, &state.changes, &actor, &PeerId::new(id)).await?;
    Ok(Answer(Done {}))
}
