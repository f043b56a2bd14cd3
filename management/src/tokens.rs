//! Personal access tokens and proxy tokens: made, listed, taken back.
//!
//! Tokens are shown once, when they are made; the store keeps their hashes.

use std::time::Duration;

use meshgate_proto::token::{Token, TokenKind};
use meshgate_proto::{TokenId, UnixTime, UserId, Xid};

use crate::actor::Actor;
use crate::authz::{Module, Operation, require};
use crate::changes::{Change, Changes};
use crate::error::UseCaseError;
use crate::store::Store;
use crate::store::peers::RemovedPeer;
use crate::store::personal_tokens::PersonalTokenRow;
use crate::store::proxy_tokens::ProxyTokenRow;

/// Longest name of a token.
const MAX_NAME: usize = 255;

const DAY: Duration = Duration::from_hours(24);

/// A proxy token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProxyToken {
    /// What its owner calls it.
    pub name: String,
    /// For how many seconds it is good; 0 = for ever.
    pub expires_in: i64,
}

/// A proxy token that was just made.
#[derive(Clone, Debug)]
pub struct MadeProxyToken {
    /// What is kept of it.
    pub row: ProxyTokenRow,
    /// The token itself.
    pub token: Token,
}

/// A personal access token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPersonalToken {
    /// Whom it stands for.
    pub user: UserId,
    /// What its owner calls it.
    pub name: String,
    /// For how many days it is good: 1 to 365.
    pub days: u16,
}

/// Lists the proxy tokens of the account, the revoked ones too.
pub async fn list_proxy_tokens(store: &Store, actor: &Actor) -> Result<Vec<ProxyTokenRow>, UseCaseError> {
    require(actor, Module::Services, Operation::Read)?;
    Ok(store.proxy_tokens(actor.scope()).await?)
}

/// Makes a proxy token that serves the account alone.
pub async fn create_proxy_token(
    store: &Store,
    actor: &Actor,
    new: NewProxyToken,
    now: UnixTime,
) -> Result<MadeProxyToken, UseCaseError> {
    require(actor, Module::Services, Operation::Create)?;
    let mut made = make_proxy_token(new, actor.user().as_str(), now)?;
    made.row.account_id = Some(actor.scope().account().clone());
    let mut tx = store.begin().await?;
    tx.insert_proxy_token(&made.row).await?;
    tx.commit().await?;
    Ok(made)
}

/// Checks and makes a proxy token without keeping it. It serves all accounts.
pub(crate) fn make_proxy_token(
    new: NewProxyToken,
    created_by: &str,
    now: UnixTime,
) -> Result<MadeProxyToken, UseCaseError> {
    if new.name.is_empty() || new.name.chars().count() > MAX_NAME {
        let text = format!("token name is required and may have {MAX_NAME} characters");
        return Err(UseCaseError::Malformed(text));
    }
    let Ok(seconds) = u64::try_from(new.expires_in) else {
        let text = "expires_in must be 0 (never) or a number of seconds".to_owned();
        return Err(UseCaseError::Malformed(text));
    };
    let token = Token::generate(TokenKind::Proxy);
    let row = ProxyTokenRow {
        id: TokenId::from(Xid::generate(now)),
        name: new.name,
        hashed_token: token.hash(),
        account_id: None,
        expires_at: (seconds > 0).then(|| now.saturating_add(Duration::from_secs(seconds))),
        created_by: created_by.to_owned(),
        created_at: now,
        last_used: None,
        revoked: false,
    };
    Ok(MadeProxyToken { row, token })
}

/// Takes all power from a proxy token of the account; a second time is fine. The peers of its proxies go with it.
pub async fn revoke_proxy_token(
    store: &Store,
    changes: &Changes,
    actor: &Actor,
    id: &TokenId,
) -> Result<(), UseCaseError> {
    require(actor, Module::Services, Operation::Delete)?;
    let mut tx = store.begin().await?;
    if !tx.revoke_proxy_token(actor.scope(), id).await? {
        return Err(UseCaseError::not_found("proxy token"));
    }
    let removed = tx.delete_peers_of_proxy_token_anywhere(id).await?;
    tx.commit().await?;
    tell_revoked(changes, id, removed);
    Ok(())
}

/// Tells that a proxy token opens nothing any more, and which peers have gone with it.
pub(crate) fn tell_revoked(changes: &Changes, token: &TokenId, removed: Vec<RemovedPeer>) {
    changes.publish(Change::ProxyTokenRevoked { token: token.clone() });
    for RemovedPeer { account, peer, key } in removed {
        tracing::info!(peer.id = %peer, peer.key = %key.short(), "Peer of a proxy went with its token");
        changes.publish(Change::PeerRemoved { account, peer, key });
    }
}

/// Checks and makes a personal access token without keeping it.
pub(crate) fn make_personal_token(
    new: NewPersonalToken,
    created_by: &UserId,
    now: UnixTime,
) -> Result<(PersonalTokenRow, Token), UseCaseError> {
    if new.name.is_empty() || new.name.chars().count() > MAX_NAME {
        let text = format!("token name is required and may have {MAX_NAME} characters");
        return Err(UseCaseError::Invalid(text));
    }
    if !(1..=365).contains(&new.days) {
        return Err(UseCaseError::invalid(
            "expiration has to be between 1 and 365 days",
        ));
    }
    let token = Token::generate(TokenKind::PersonalAccess);
    let row = PersonalTokenRow {
        id: TokenId::from(Xid::generate(now)),
        user_id: new.user,
        name: new.name,
        hashed_token: token.hash(),
        expires_at: now.saturating_add(DAY * u32::from(new.days)),
        created_by: created_by.clone(),
        created_at: now,
        last_used: None,
    };
    Ok((row, token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    fn new(name: &str, expires_in: i64) -> NewProxyToken {
        NewProxyToken {
            name: name.to_owned(),
            expires_in,
        }
    }

    #[tokio::test]
    async fn a_revoked_token_stays_in_the_list_and_the_news_go_out_once_done() {
        let world = World::new().await;
        let account = world.account().await;
        let state = &world.state;
        let mut news = state.changes.subscribe();
        let made = create_proxy_token(&state.store, &account.actor(), new("p", 60), world.now())
            .await
            .unwrap();

        for _ in 0..2 {
            revoke_proxy_token(&state.store, &state.changes, &account.actor(), &made.row.id)
                .await
                .unwrap();
        }

        let listed = list_proxy_tokens(&state.store, &account.actor()).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].revoked);
        assert_eq!(listed[0].hashed_token, made.token.hash());
        let told = news.try_recv().unwrap();
        assert_eq!(told, Change::ProxyTokenRevoked { token: made.row.id });
    }

    #[tokio::test]
    async fn a_token_of_another_account_is_not_there() {
        let world = World::new().await;
        let (one, other) = (world.account().await, world.account().await);
        let state = &world.state;
        let made = create_proxy_token(&state.store, &one.actor(), new("p", 0), world.now())
            .await
            .unwrap();

        let error = revoke_proxy_token(&state.store, &state.changes, &other.actor(), &made.row.id)
            .await
            .unwrap_err();

        assert!(matches!(error, UseCaseError::NotFound(_)));
        assert!(
            list_proxy_tokens(&state.store, &other.actor())
                .await
                .unwrap()
                .is_empty()
        );
        assert!(!list_proxy_tokens(&state.store, &one.actor()).await.unwrap()[0].revoked);
    }

    #[test]
    fn names_and_times_are_checked() {
        let now = UnixTime::EPOCH;
        for bad in [new("", 0), new(&"x".repeat(256), 0), new("p", -1)] {
            let error = make_proxy_token(bad, "u", now).unwrap_err();
            assert!(matches!(error, UseCaseError::Malformed(_)), "{error}");
        }
        assert!(make_proxy_token(new(&"x".repeat(255), i64::MAX), "u", now).is_ok());
        for days in [0, 366] {
            let new = NewPersonalToken {
                user: UserId::new("u"),
                name: "n".to_owned(),
                days,
            };
            assert!(make_personal_token(new, &UserId::new("u"), now).is_err());
        }
    }
}
