//! Who is calling the REST API: personal access tokens.

use std::time::Duration;

use meshgate_proto::UnixTime;
use meshgate_proto::token::{Token, TokenKind};

use crate::actor::{Actor, Scope};
use crate::error::UseCaseError;
use crate::store::Store;
use crate::store::personal_tokens::PersonalTokenRow;
use crate::store::users::UserRow;

/// Nothing was shown that we could look at. Clients match this text.
pub const NO_AUTHENTICATION: &str = "no valid authentication provided";

/// What was shown opens nothing, for whatever reason. Clients match this text.
pub const TOKEN_INVALID: &str = "token invalid";

/// A token's last use is written down at most this often.
const TOUCH_INTERVAL: Duration = Duration::from_mins(1);

/// Finds out who calls with this `Authorization` header: `Token nbp_…` or `Bearer nbp_…`.
///
/// Unknown, expired and mistyped tokens look alike.
pub async fn authenticate(store: &Store, header: Option<&str>, now: UnixTime) -> Result<Actor, UseCaseError> {
    let token = presented(header)?;
    let found = store.personal_token_anywhere(&token.hash()).await?;
    let found = found
        .filter(|found| found.token.expires_at > now)
        .ok_or(UseCaseError::Unauthenticated(TOKEN_INVALID))?;
    let scope = Scope::authenticated(found.account_id);
    let user = store.user(&scope, &found.token.user_id).await?;
    let user = user.ok_or(UseCaseError::Unauthenticated(TOKEN_INVALID))?;
    refuse_blocked(&user)?;
    note_use(store, &found.token, now).await?;
    Ok(Actor::authenticated(
        scope,
        user.id,
        user.role,
        user.is_service_user,
    ))
}

fn presented(header: Option<&str>) -> Result<Token, UseCaseError> {
    let mut words = header.unwrap_or_default().split(' ');
    let scheme = words.next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("token") && !scheme.eq_ignore_ascii_case("bearer") {
        return Err(UseCaseError::Unauthenticated(NO_AUTHENTICATION));
    }
    let invalid = UseCaseError::Unauthenticated(TOKEN_INVALID);
    let (Some(text), None) = (words.next(), words.next()) else {
        return Err(invalid);
    };
    Token::parse(TokenKind::PersonalAccess, text).map_err(|_| invalid)
}

fn refuse_blocked(user: &UserRow) -> Result<(), UseCaseError> {
    if !user.blocked {
        return Ok(());
    }
    let text = if user.pending_approval {
        "user is pending approval"
    } else {
        "user is blocked"
    };
    Err(UseCaseError::Forbidden(text.to_owned()))
}

async fn note_use(store: &Store, token: &PersonalTokenRow, now: UnixTime) -> Result<(), UseCaseError> {
    if token
        .last_used
        .is_some_and(|last| now.since(last) < TOUCH_INTERVAL)
    {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    tx.touch_personal_token(&token.id, now).await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    fn text(error: &UseCaseError) -> String {
        error.to_string()
    }

    #[tokio::test]
    async fn a_token_opens_its_account_under_both_schemes() {
        let world = World::new().await;
        let account = world.account().await;

        for scheme in ["Token", "bearer"] {
            let header = format!("{scheme} {}", account.token);
            let actor = authenticate(&world.state.store, Some(&header), world.now())
                .await
                .unwrap();
            assert_eq!(actor.scope(), &account.scope);
            assert_eq!(actor.user(), &account.owner);
        }
    }

    #[tokio::test]
    async fn what_was_not_shown_and_what_is_wrong_have_two_texts() {
        let world = World::new().await;
        let account = world.account().await;
        let store = &world.state.store;
        let stranger = Token::generate(TokenKind::PersonalAccess);

        for header in [None, Some(""), Some("Basic abc")] {
            let error = authenticate(store, header, world.now()).await.unwrap_err();
            assert_eq!(text(&error), NO_AUTHENTICATION, "{header:?}");
        }
        for header in [
            "Token".to_owned(),
            "Token nbp_garbage".to_owned(),
            format!("Token  {}", account.token),
            format!("Token {} x", account.token),
            format!("Token {}", stranger.expose()),
            format!("Token {}", Token::generate(TokenKind::Proxy).expose()),
        ] {
            let error = authenticate(store, Some(&header), world.now()).await.unwrap_err();
            assert_eq!(text(&error), TOKEN_INVALID, "{header}");
        }
    }

    #[tokio::test]
    async fn an_expired_token_is_as_good_as_unknown() {
        let world = World::new().await;
        let account = world.account().await;
        world.clock.advance(Duration::from_hours(24));

        let header = format!("Token {}", account.token);
        let error = authenticate(&world.state.store, Some(&header), world.now())
            .await
            .unwrap_err();

        assert_eq!(text(&error), TOKEN_INVALID);
    }

    #[tokio::test]
    async fn the_last_use_is_written_once_a_minute() {
        let world = World::new().await;
        let account = world.account().await;
        let header = format!("Token {}", account.token);
        let first = world.now();

        for seconds in [0, 59] {
            world.clock.advance(Duration::from_secs(seconds));
            authenticate(&world.state.store, Some(&header), world.now())
                .await
                .unwrap();
        }

        let tokens = world
            .state
            .store
            .personal_tokens(&account.scope, &account.owner)
            .await
            .unwrap();
        assert_eq!(tokens[0].last_used, Some(first));
    }
}
