//! What the command line does on a data directory: the first account and the tokens that open the rest.
//!
//! It works beside a running server – both open the same database – and without one. A running server sees
//! what was made at once; a revoked proxy token ends its open streams with the next heartbeat.

use std::sync::Arc;

use meshgate_proto::token::Token;
use meshgate_proto::{AccountId, Clock, TokenId, UserId};

use crate::accounts::{self, NewOwner};
use crate::actor::{Actor, Scope};
use crate::authz::Role;
use crate::config::Config;
use crate::data::{self, OpenError};
use crate::error::UseCaseError;
use crate::secrets::AtRest;
use crate::setup_keys::{self, MadeSetupKey, NewSetupKey};
use crate::store::accounts::AccountRow;
use crate::store::personal_tokens::PersonalTokenRow;
use crate::store::proxy_tokens::ProxyTokenRow;
use crate::store::setup_keys::SetupKeyRow;
use crate::store::users::UserRow;
use crate::store::{Store, StoreError};
use crate::tokens::{self, MadeProxyToken, NewPersonalToken, NewProxyToken};

/// Who is noted as the maker of what the command line makes.
const CREATOR: &str = "CLI";

/// Why the command line did not do what it was asked. The texts say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database did not do what it was told.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked cannot be.
    #[error(transparent)]
    Refused(#[from] UseCaseError),
    /// The first account is there already.
    #[error("account {0} exists already: make a token for its owner instead of a second first account")]
    AccountExists(AccountId),
    /// There is no account.
    #[error("there is no account yet: make the first one before")]
    NoAccount,
    /// There are several accounts.
    #[error("there are {0} accounts: say which one is meant, by id")]
    SeveralAccounts(usize),
    /// There is no such account.
    #[error("account {0} not found: list the accounts to see their ids")]
    UnknownAccount(AccountId),
    /// There is no such user.
    #[error(
        "user {user} not found in account {account}: give an id or an e-mail address of one of its users"
    )]
    UnknownUser {
        /// What was given.
        user: String,
        /// Where it was looked for.
        account: AccountId,
    },
    /// There is no such token.
    #[error("token {0} not found: list the tokens to see their ids")]
    UnknownToken(TokenId),
}

/// Which account a proxy token serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenReach {
    /// All, now and later.
    Everywhere,
    /// This one; `None` = the only one there is.
    Account(Option<AccountId>),
}

/// The first account, just made.
#[derive(Clone, Debug)]
pub struct FirstAdmin {
    /// The account.
    pub account: AccountId,
    /// Its owner.
    pub owner: UserId,
    /// A personal access token of his.
    pub token: Token,
}

/// An open data directory.
#[derive(Clone)]
pub struct Admin {
    store: Store,
    at_rest: AtRest,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// Opens the data directory; makes it where there is none.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, AdminError> {
        let (store, at_rest) = data::open(config).await?;
        Ok(Self {
            store,
            at_rest,
            clock,
        })
    }

    /// Makes the first account with its owner, and a personal access token of his for so many days.
    pub async fn create_first_admin(
        &self,
        domain: &str,
        owner: &NewOwner,
        days: u16,
    ) -> Result<FirstAdmin, AdminError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if let Some(account) = tx.first_account_anywhere().await? {
            return Err(AdminError::AccountExists(account));
        }
        let account = accounts::create(&mut tx, &self.at_rest, domain, owner, now).await?;
        let new = NewPersonalToken {
            user: account.owner.clone(),
            name: "first".to_owned(),
            days,
        };
        let (row, token) = tokens::make_personal_token(new, &account.owner, now)?;
        tx.insert_personal_token(&row).await?;
        tx.commit().await?;
        Ok(FirstAdmin {
            account: account.scope.account().clone(),
            owner: account.owner,
            token,
        })
    }

    /// The accounts, oldest first.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, AdminError> {
        Ok(self.store.accounts_anywhere().await?)
    }

    /// Makes a personal access token for a user, by id or e-mail address; `None` = the owner.
    pub async fn create_personal_token(
        &self,
        account: Option<AccountId>,
        user: Option<&str>,
        name: &str,
        days: u16,
    ) -> Result<Token, AdminError> {
        let scope = self.scope(account).await?;
        let user = self.user(&scope, user).await?;
        let new = NewPersonalToken {
            user: user.id,
            name: name.to_owned(),
            days,
        };
        let (row, token) = tokens::make_personal_token(new, &UserId::new(CREATOR), self.clock.now())?;
        let mut tx = self.store.begin().await?;
        tx.insert_personal_token(&row).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// The personal access tokens of a user, by id or e-mail address; `None` = the owner.
    pub async fn personal_tokens(
        &self,
        account: Option<AccountId>,
        user: Option<&str>,
    ) -> Result<Vec<PersonalTokenRow>, AdminError> {
        let scope = self.scope(account).await?;
        let user = self.user(&scope, user).await?;
        Ok(self.store.personal_tokens(&scope, &user.id).await?)
    }

    /// Makes a proxy token.
    pub async fn create_proxy_token(
        &self,
        reach: TokenReach,
        new: NewProxyToken,
    ) -> Result<MadeProxyToken, AdminError> {
        let mut made = tokens::make_proxy_token(new, CREATOR, self.clock.now())?;
        if let TokenReach::Account(account) = reach {
            made.row.account_id = Some(self.scope(account).await?.account().clone());
        }
        let mut tx = self.store.begin().await?;
        tx.insert_proxy_token(&made.row).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// All proxy tokens, oldest first, the revoked ones too.
    pub async fn proxy_tokens(&self) -> Result<Vec<ProxyTokenRow>, AdminError> {
        Ok(self.store.proxy_tokens_anywhere().await?)
    }

    /// Takes all power from a token, a personal one or one of a proxy.
    pub async fn revoke_token(&self, id: &TokenId) -> Result<(), AdminError> {
        let mut tx = self.store.begin().await?;
        let found =
            tx.revoke_proxy_token_anywhere(id).await? || tx.delete_personal_token_anywhere(id).await?;
        if !found {
            return Err(AdminError::UnknownToken(id.clone()));
        }
        Ok(tx.commit().await?)
    }

    /// Makes a setup key; `None` = in the only account.
    pub async fn create_setup_key(
        &self,
        account: Option<AccountId>,
        new: NewSetupKey,
    ) -> Result<MadeSetupKey, AdminError> {
        let actor = owner_in(self.scope(account).await?);
        Ok(setup_keys::create(&self.store, &actor, new, self.clock.now()).await?)
    }

    /// The setup keys of an account; `None` = of the only one.
    pub async fn setup_keys(&self, account: Option<AccountId>) -> Result<Vec<SetupKeyRow>, AdminError> {
        let actor = owner_in(self.scope(account).await?);
        Ok(setup_keys::list(&self.store, &actor).await?)
    }

    async fn scope(&self, account: Option<AccountId>) -> Result<Scope, AdminError> {
        let mut accounts = self.store.accounts_anywhere().await?;
        if let Some(wanted) = account {
            let known = accounts.iter().any(|row| row.id == wanted);
            return if known {
                Ok(Scope::authenticated(wanted))
            } else {
                Err(AdminError::UnknownAccount(wanted))
            };
        }
        let only = accounts.pop().ok_or(AdminError::NoAccount)?;
        if accounts.is_empty() {
            Ok(Scope::authenticated(only.id))
        } else {
            Err(AdminError::SeveralAccounts(accounts.len() + 1))
        }
    }

    async fn user(&self, scope: &Scope, wanted: Option<&str>) -> Result<UserRow, AdminError> {
        for user in self.store.users(scope).await? {
            let fits = match wanted {
                None => user.role == Role::Owner,
                Some(wanted) => {
                    let email = self.at_rest.unseal(&user.email).map_err(OpenError::from)?;
                    user.id.as_str() == wanted || email.expose().eq_ignore_ascii_case(wanted)
                }
            };
            if fits {
                return Ok(user);
            }
        }
        Err(AdminError::UnknownUser {
            user: wanted.unwrap_or("owner").to_owned(),
            account: scope.account().clone(),
        })
    }
}

/// Whoever can write the database may do what an owner may.
fn owner_in(scope: Scope) -> Actor {
    Actor::authenticated(scope, UserId::new(CREATOR), Role::Owner, false)
}

#[cfg(test)]
mod tests;
