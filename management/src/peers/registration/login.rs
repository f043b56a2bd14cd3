//! Login: a known peer is let in, an unknown one with a setup key is registered first.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meshgate_proto::network_map::SystemMeta;
use meshgate_proto::{GroupId, PeerId, Secret, UnixTime, WgPublicKey, Xid};
use sha2::{Digest as _, Sha256};

use super::limits::{self, TooLong};
use super::{Refused, address, address_text, admit, label, stored_meta};
use crate::actor::Scope;
use crate::changes::Change;
use crate::error::UseCaseError;
use crate::state::State;
use crate::store::accounts::AccountRow;
use crate::store::groups::ALL;
use crate::store::peers::PeerRow;
use crate::store::setup_keys::SetupKeyRow;
use crate::store::{StoreError, Tx};

/// Most labels that a peer may ask for.
const MAX_EXTRA_LABELS: usize = 16;

/// What a peer says at the door. Its key is proved by the box the message came in.
#[derive(Debug)]
pub struct Login<'a> {
    /// The peer's key.
    pub key: WgPublicKey,
    /// What the machine says of itself.
    pub meta: &'a SystemMeta,
    /// `authorized_keys` line; empty without SSH.
    pub ssh_key: &'a str,
    /// Lets an unknown peer in.
    pub setup_key: Option<&'a Secret<String>>,
    /// Further names the peer wants.
    pub dns_labels: &'a [String],
    /// Where it calls from.
    pub address: Option<IpAddr>,
}

/// A peer that is in.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its account.
    pub account: AccountRow,
    /// The peer.
    pub peer: PeerRow,
}

/// Why a peer is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody knows the peer, and it brought nothing to get in with.
    #[error("peer is not registered and brought no setup key")]
    NotRegistered,
    /// The login of the peer's user has ended, or the peer waits for approval.
    #[error("peer login has expired")]
    Expired,
    /// The setup key is unknown, expired, revoked or used up: which of these is nobody's business.
    #[error("setup key is not valid")]
    SetupKey,
    /// Two registrations of one key at the same time.
    #[error("peer has been registered already")]
    Registered,
    /// Labels were asked for with a key that gives none, or ones that cannot be names.
    #[error("{0}")]
    Labels(&'static str),
    /// A text is longer than what is stored and sent on.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] UseCaseError),
}

impl From<StoreError> for LoginError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

impl From<Refused> for LoginError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoAddress => Self::Other(UseCaseError::Precondition(refused.to_string())),
            // Two registrations of one key: the other one was first.
            Refused::Store(StoreError::Duplicate { constraint }) if constraint == "peers.key" => {
                Self::Registered
            }
            Refused::Store(error) => error.into(),
        }
    }
}

/// Lets a peer in.
pub async fn login(state: &State, login: Login<'_>) -> Result<Member, LoginError> {
    limits::check(login.meta, Some(login.ssh_key))?;
    if let Some(member) = update_meta(state, &login.key, login.meta, Some(login.ssh_key)).await? {
        return Ok(member);
    }
    let setup_key = login.setup_key.ok_or(LoginError::NotRegistered)?;
    let setup_key = state
        .store
        .setup_key_anywhere(&setup_key_hash(setup_key))
        .await?
        .ok_or(LoginError::SetupKey)?;
    check_labels(&login, &setup_key)?;
    register(state, &login, &setup_key).await
}

/// A known peer, by the key it has proved; `None` when nobody knows it.
pub async fn member(state: &State, key: &WgPublicKey) -> Result<Option<Member>, LoginError> {
    let Some(peer) = state.store.peer_by_key_anywhere(key).await? else {
        return Ok(None);
    };
    let scope = Scope::authenticated(peer.account_id.clone());
    let Some(account) = state.store.account(&scope).await? else {
        return Ok(None);
    };
    if peer.login_expired {
        return Err(LoginError::Expired);
    }
    Ok(Some(Member { account, peer }))
}

/// Keeps what a known peer says of itself now; `None` when nobody knows the peer.
///
/// `ssh_key` is `None` where the message does not carry one.
pub async fn update_meta(
    state: &State,
    key: &WgPublicKey,
    meta: &SystemMeta,
    ssh_key: Option<&str>,
) -> Result<Option<Member>, LoginError> {
    let Some(Member { account, mut peer }) = member(state, key).await? else {
        return Ok(None);
    };
    limits::check(meta, ssh_key)?;
    let meta_now = stored_meta(meta);
    let needs_v6 = peer.ipv6.is_none() && meta.wants_ipv6() && account.settings.ipv6_enabled_groups.is_none();
    let changed = peer.meta != meta_now || needs_v6 || ssh_key.is_some_and(|key| key != peer.ssh_key);
    if !changed && ssh_key.is_none() {
        return Ok(Some(Member { account, peer }));
    }
    let scope = Scope::authenticated(peer.account_id.clone());
    let mut tx = state.store.begin().await?;
    peer.meta = meta_now;
    if let Some(ssh_key) = ssh_key {
        ssh_key.clone_into(&mut peer.ssh_key);
        peer.last_login = Some(state.clock.now());
    }
    if needs_v6 {
        peer.ipv6 = Some(address::free_v6(&mut tx, &scope, &account).await?);
    }
    tx.update_peer_login(&scope, &peer).await?;
    if changed {
        tx.bump_network_serial(&scope).await?;
    }
    tx.commit().await?;
    if changed {
        let (account, peer) = (peer.account_id.clone(), peer.id.clone());
        state.changes.publish(if needs_v6 {
            Change::Peer { account, peer }
        } else {
            Change::PeerMeta { account, peer }
        });
    }
    Ok(Some(Member { account, peer }))
}

async fn register(state: &State, login: &Login<'_>, setup_key: &SetupKeyRow) -> Result<Member, LoginError> {
    let now = state.clock.now();
    let scope = Scope::authenticated(setup_key.account_id.clone());
    let mut tx = state.store.begin().await?;
    if tx.peer_by_key_anywhere(&login.key).await?.is_some() {
        return Err(LoginError::Registered);
    }
    if !tx.use_setup_key(&scope, &setup_key.id, now).await? {
        return Err(LoginError::SetupKey);
    }
    let account = tx.account(&scope).await?.ok_or(LoginError::SetupKey)?;
    let groups = groups_of(&mut tx, &scope, setup_key).await?;
    let mut peer = new_peer(login, setup_key, &account, now);
    let v6 = login.meta.wants_ipv6() && has_ipv6(&account, &groups);
    admit(&mut tx, &scope, &account, &mut peer, v6).await?;
    for group in &groups {
        tx.add_group_peer(&scope, group, &peer.id).await?;
    }
    tx.commit().await?;
    tracing::info!(peer.id = %peer.id, peer.key = %peer.key.short(), "Peer registered with a setup key");
    state.changes.publish(Change::Peer {
        account: account.id.clone(),
        peer: peer.id.clone(),
    });
    Ok(Member { account, peer })
}

/// All and the groups of the key that are still there.
async fn groups_of(tx: &mut Tx, scope: &Scope, key: &SetupKeyRow) -> Result<BTreeSet<GroupId>, StoreError> {
    let mut groups = BTreeSet::new();
    groups.extend(tx.group_by_name(scope, ALL).await?.map(|group| group.id));
    for group in &key.auto_groups {
        groups.extend(tx.group(scope, group).await?.map(|group| group.id));
    }
    Ok(groups)
}

fn has_ipv6(account: &AccountRow, groups: &BTreeSet<GroupId>) -> bool {
    account
        .settings
        .ipv6_enabled_groups
        .as_ref()
        .is_none_or(|enabled| enabled.iter().any(|group| groups.contains(group.as_str())))
}

fn new_peer(login: &Login<'_>, setup_key: &SetupKeyRow, account: &AccountRow, now: UnixTime) -> PeerRow {
    PeerRow {
        id: PeerId::new(Xid::generate(now).to_string()),
        account_id: account.id.clone(),
        key: login.key,
        ip: Ipv4Addr::UNSPECIFIED,
        ipv6: None,
        meta: stored_meta(login.meta),
        proxy_embedded: false,
        proxy_cluster: String::new(),
        name: login.meta.hostname.clone(),
        dns_label: label::label(&login.meta.hostname),
        connected: false,
        last_seen: now,
        session_started_at: 0,
        login_expired: false,
        requires_approval: false,
        user_id: None,
        ssh_key: login.ssh_key.to_owned(),
        ssh_enabled: false,
        login_expiration_enabled: false,
        inactivity_expiration_enabled: false,
        last_login: Some(now),
        created_at: now,
        ephemeral: setup_key.ephemeral,
        connection_ip: address_text(login.address),
        country_code: String::new(),
        city_name: String::new(),
        geoname_id: 0,
        extra_dns_labels: login.dns_labels.to_vec(),
        allow_extra_dns_labels: setup_key.allow_extra_dns_labels,
    }
}

fn check_labels(login: &Login<'_>, setup_key: &SetupKeyRow) -> Result<(), LoginError> {
    if login.dns_labels.is_empty() {
        return Ok(());
    }
    if !setup_key.allow_extra_dns_labels {
        return Err(LoginError::Labels("setup key does not allow extra DNS labels"));
    }
    if login.dns_labels.len() > MAX_EXTRA_LABELS
        || !login.dns_labels.iter().all(|label| label::is_valid(label))
    {
        return Err(LoginError::Labels("extra DNS labels are too many or malformed"));
    }
    Ok(())
}

/// How the store names a key: clients write it in lower case, its owner saw it in upper case.
fn setup_key_hash(key: &Secret<String>) -> String {
    let upper = Secret::new(key.expose().to_uppercase());
    STANDARD.encode(Sha256::digest(upper.expose().as_bytes()))
}
