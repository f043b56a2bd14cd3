//! Setup keys: how new peers are let in.
//!
//! A key is a random UUID, shown once; the store keeps its hash and its first characters.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meshgate_proto::{GroupId, Secret, SetupKeyId, UnixTime, Xid};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::actor::{Actor, Scope};
use crate::authz::{Module, Operation, require};
use crate::error::UseCaseError;
use crate::store::groups::ALL;
use crate::store::setup_keys::{SetupKeyKind, SetupKeyRow};
use crate::store::{Store, Tx};

/// How many characters of a key stay legible.
const LEGIBLE: usize = 5;

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSetupKey {
    /// What its owner calls it.
    pub name: String,
    /// `reusable` or `one-off`.
    pub kind: String,
    /// For how many seconds it is good; 0 = for ever.
    pub expires_in: i64,
    /// Groups its peers get, by id or, where no id fits, by name.
    pub auto_groups: Vec<String>,
    /// How many it may let in; 0 or less = no limit.
    pub usage_limit: i64,
    /// Its peers vanish when they stay away.
    pub ephemeral: bool,
    /// Its peers may ask for more DNS labels.
    pub allow_extra_dns_labels: bool,
}

/// What may be changed of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupKeyUpdate {
    /// It lets nobody in any more; cannot be undone.
    pub revoked: bool,
    /// Groups its peers get; must be given.
    pub auto_groups: Option<Vec<String>>,
}

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct MadeSetupKey {
    /// What is kept of it.
    pub row: SetupKeyRow,
    /// The key itself.
    pub key: Secret<String>,
}

/// What a key is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetupKeyState {
    /// It lets in.
    Valid,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// It has let in as many as it may.
    Overused,
}

impl SetupKeyState {
    /// The word of the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Overused => "overused",
        }
    }
}

/// What a key is good for at `now`.
pub fn state(key: &SetupKeyRow, now: UnixTime) -> SetupKeyState {
    if key.revoked {
        SetupKeyState::Revoked
    } else if key.expires_at.is_some_and(|at| at <= now) {
        SetupKeyState::Expired
    } else if u64::try_from(key.usage_limit).is_ok_and(|limit| limit > 0 && key.used_times >= limit) {
        SetupKeyState::Overused
    } else {
        SetupKeyState::Valid
    }
}

/// What the store keeps of a key. Letters count the same in both cases.
pub fn hash(key: &str) -> String {
    STANDARD.encode(Sha256::digest(key.to_uppercase().as_bytes()))
}

/// Lists the keys of the account.
pub async fn list(store: &Store, actor: &Actor) -> Result<Vec<SetupKeyRow>, UseCaseError> {
    require(actor, Module::SetupKeys, Operation::Read)?;
    Ok(store.setup_keys(actor.scope()).await?)
}

/// Shows one key.
pub async fn get(store: &Store, actor: &Actor, id: &SetupKeyId) -> Result<SetupKeyRow, UseCaseError> {
    require(actor, Module::SetupKeys, Operation::Read)?;
    let key = store.setup_key(actor.scope(), id).await?;
    key.ok_or_else(not_found)
}

/// Makes a key.
pub async fn create(
    store: &Store,
    actor: &Actor,
    new: NewSetupKey,
    now: UnixTime,
) -> Result<MadeSetupKey, UseCaseError> {
    require(actor, Module::SetupKeys, Operation::Create)?;
    if new.name.is_empty() {
        return Err(UseCaseError::invalid("setup key name shouldn't be empty"));
    }
    let Some(kind) = SetupKeyKind::from_word(&new.kind) else {
        let text = format!("unknown setup key type {:?}: use reusable or one-off", new.kind);
        return Err(UseCaseError::Invalid(text));
    };
    let Ok(seconds) = u64::try_from(new.expires_in) else {
        let text = "expires_in must be 0 (never) or a number of seconds";
        return Err(UseCaseError::invalid(text));
    };
    let usage_limit = match kind {
        SetupKeyKind::OneOff if new.usage_limit > 1 => {
            let text = "a one-off setup key cannot have a usage limit above 1";
            return Err(UseCaseError::invalid(text));
        }
        SetupKeyKind::OneOff => 1,
        SetupKeyKind::Reusable => new.usage_limit,
    };
    let mut tx = store.begin().await?;
    let auto_groups = resolve_groups(&mut tx, actor.scope(), &new.auto_groups).await?;
    let key = Uuid::new_v4().to_string().to_uppercase();
    let row = SetupKeyRow {
        id: SetupKeyId::from(Xid::generate(now)),
        account_id: actor.scope().account().clone(),
        hashed_key: hash(&key),
        key_secret: format!("{}****", &key[..LEGIBLE]),
        name: new.name,
        kind,
        created_at: now,
        expires_at: (seconds > 0).then(|| now.saturating_add(Duration::from_secs(seconds))),
        updated_at: now,
        revoked: false,
        used_times: 0,
        last_used: None,
        auto_groups,
        usage_limit,
        ephemeral: new.ephemeral,
        allow_extra_dns_labels: new.allow_extra_dns_labels,
    };
    tx.insert_setup_key(&row).await?;
    tx.commit().await?;
    Ok(MadeSetupKey { row, key: key.into() })
}

/// Changes groups, or revokes.
pub async fn update(
    store: &Store,
    actor: &Actor,
    id: &SetupKeyId,
    update: SetupKeyUpdate,
    now: UnixTime,
) -> Result<SetupKeyRow, UseCaseError> {
    require(actor, Module::SetupKeys, Operation::Update)?;
    let Some(auto_groups) = update.auto_groups else {
        return Err(UseCaseError::invalid("auto_groups is required (it may be empty)"));
    };
    let mut tx = store.begin().await?;
    let mut key = tx.setup_key(actor.scope(), id).await?.ok_or_else(not_found)?;
    if key.revoked && !update.revoked {
        return Err(UseCaseError::invalid(
            "a revoked setup key cannot be un-revoked: make a new one",
        ));
    }
    key.auto_groups = resolve_groups(&mut tx, actor.scope(), &auto_groups).await?;
    key.revoked = update.revoked;
    key.updated_at = now;
    tx.update_setup_key(actor.scope(), &key).await?;
    tx.commit().await?;
    Ok(key)
}

/// Removes a key. Peers that came with it stay.
pub async fn delete(store: &Store, actor: &Actor, id: &SetupKeyId) -> Result<(), UseCaseError> {
    require(actor, Module::SetupKeys, Operation::Delete)?;
    let mut tx = store.begin().await?;
    if !tx.delete_setup_key(actor.scope(), id).await? {
        return Err(not_found());
    }
    Ok(tx.commit().await?)
}

fn not_found() -> UseCaseError {
    UseCaseError::not_found("setup key")
}

async fn resolve_groups(tx: &mut Tx, scope: &Scope, named: &[String]) -> Result<Vec<GroupId>, UseCaseError> {
    let mut ids = Vec::with_capacity(named.len());
    for name in named {
        let by_id = tx.group(scope, &GroupId::new(name.as_str())).await?;
        let group = match by_id {
            Some(group) => Some(group),
            None => tx.group_by_name(scope, name).await?,
        };
        let Some(group) = group else {
            return Err(UseCaseError::Invalid(format!(
                "invalid auto groups: group not found: {name}"
            )));
        };
        if group.name == ALL {
            let text = "invalid auto groups: every peer is in group All anyway";
            return Err(UseCaseError::invalid(text));
        }
        if !ids.contains(&group.id) {
            ids.push(group.id);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests;
