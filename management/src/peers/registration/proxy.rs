//! Peers of proxies: registered ahead, so that the embedded client logs in without a setup key.

use std::net::Ipv4Addr;

use meshgate_proto::{AccountId, PeerId, TokenId, UnixTime, WgPublicKey, Xid};

use super::{Refused, admit};
use crate::actor::Scope;
use crate::changes::Change;
use crate::error::UseCaseError;
use crate::state::State;
use crate::store::Tx;
use crate::store::peers::{PeerMeta, PeerRow};

/// System name that marks peers of proxies.
const PROXY_OS: &str = "proxy";

/// Registers the peer of a proxy in an account. It is there for as long as the token opens something.
///
/// The peer is ephemeral, in no group (so no policy names it), and reaches only what services of the
/// cluster lead to. A proxy that moved to another cluster keeps its peer, which moves along.
pub async fn register_proxy_peer(
    state: &State,
    account: &AccountId,
    key: WgPublicKey,
    cluster: &str,
    token: &TokenId,
) -> Result<PeerId, UseCaseError> {
    let scope = Scope::authenticated(account.clone());
    let mut tx = state.store.begin().await?;
    let now = state.clock.now();
    if !tx.proxy_token_opens_anywhere(token, now).await? {
        return Err(UseCaseError::Unauthenticated("token expired or revoked"));
    }
    let known = tx.peer_by_key_anywhere(&key).await?;
    let id = match known {
        Some(known) if known.account_id != *account || !known.proxy_embedded => {
            return Err(UseCaseError::Conflict("key belongs to another peer".to_owned()));
        }
        Some(known) if known.proxy_cluster == cluster => {
            tx.assign_proxy_peer(&scope, &known.id, cluster, token).await?;
            tx.commit().await?;
            return Ok(known.id);
        }
        Some(known) => {
            tx.bump_network_serial(&scope).await?;
            known.id
        }
        None => {
            let peer = new_peer(account, key, cluster, now);
            insert(&mut tx, &scope, peer).await?
        }
    };
    tx.assign_proxy_peer(&scope, &id, cluster, token).await?;
    tx.commit().await?;
    tracing::info!(peer.id = %id, peer.key = %key.short(), cluster, "Peer of a proxy registered");
    state.changes.publish(Change::Peer {
        account: account.clone(),
        peer: id.clone(),
    });
    Ok(id)
}

async fn insert(tx: &mut Tx, scope: &Scope, mut peer: PeerRow) -> Result<PeerId, UseCaseError> {
    let account = tx
        .account(scope)
        .await?
        .ok_or_else(|| UseCaseError::not_found("account"))?;
    admit(tx, scope, &account, &mut peer, true)
        .await
        .map_err(|refused| match refused {
            Refused::NoAddress => UseCaseError::Precondition(refused.to_string()),
            Refused::Store(error) => error.into(),
        })?;
    Ok(peer.id)
}

fn new_peer(account: &AccountId, key: WgPublicKey, cluster: &str, now: UnixTime) -> PeerRow {
    let name = format!("proxy-{}", Xid::generate(now));
    PeerRow {
        id: PeerId::new(Xid::generate(now).to_string()),
        account_id: account.clone(),
        key,
        ip: Ipv4Addr::UNSPECIFIED,
        ipv6: None,
        meta: PeerMeta {
            hostname: name.clone(),
            go_os: PROXY_OS.to_owned(),
            os: PROXY_OS.to_owned(),
            ..PeerMeta::default()
        },
        proxy_embedded: true,
        proxy_cluster: cluster.to_owned(),
        dns_label: name.clone(),
        name,
        connected: false,
        last_seen: now,
        session_started_at: 0,
        login_expired: false,
        requires_approval: false,
        user_id: None,
        ssh_key: String::new(),
        ssh_enabled: false,
        login_expiration_enabled: false,
        inactivity_expiration_enabled: false,
        last_login: None,
        created_at: now,
        ephemeral: true,
        connection_ip: String::new(),
        country_code: String::new(),
        city_name: String::new(),
        geoname_id: 0,
        extra_dns_labels: Vec::new(),
        allow_extra_dns_labels: false,
    }
}
