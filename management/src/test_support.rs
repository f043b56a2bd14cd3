//! What the tests of this crate share: a database in a temporary directory, accounts, peers, proxies.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::token::{Token, TokenKind};
use meshgate_proto::{
    Clock as _, GroupId, ManualClock, PeerId, TokenId, UnixTime, UserId, WgPrivateKey, WgPublicKey, Xid,
};
use tempfile::TempDir;

use crate::accounts::{self, NewOwner};
use crate::actor::{Actor, Scope};
use crate::authz::Role;
use crate::changes::Changes;
use crate::config::Config;
use crate::error::UseCaseError;
use crate::password::{PasswordPool, PoolLimits};
use crate::peers::registration::register_proxy_peer;
use crate::state::State;
use crate::store::personal_tokens::PersonalTokenRow;
use crate::store::proxy_tokens::ProxyTokenRow;

/// 2026-01-01T00:00:00Z.
pub(crate) const START: UnixTime = UnixTime::from_secs(1_767_225_600);

/// A control plane without surfaces.
pub(crate) struct World {
    pub(crate) state: Arc<State>,
    pub(crate) clock: Arc<ManualClock>,
    _dir: TempDir,
}

/// An account in a [`World`].
pub(crate) struct TestAccount {
    pub(crate) scope: Scope,
    pub(crate) owner: UserId,
    pub(crate) all: GroupId,
    /// A personal access token of the owner.
    pub(crate) token: String,
}

impl TestAccount {
    pub(crate) fn actor(&self) -> Actor {
        Actor::authenticated(self.scope.clone(), self.owner.clone(), Role::Owner, false)
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path(), "http://127.0.0.1:1".parse().unwrap());
        let (store, at_rest) = crate::data::open(&config).await.unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let limits = PoolLimits::default();
        let state = State {
            store,
            clock: Arc::<ManualClock>::clone(&clock),
            changes: Changes::new(),
            config: Arc::new(config),
            at_rest,
            passwords: Arc::new(PasswordPool::start(limits).unwrap()),
        };
        Self {
            state: Arc::new(state),
            clock,
            _dir: dir,
        }
    }

    /// Makes an account with an owner and a token of his.
    pub(crate) async fn account(&self) -> TestAccount {
        let owner = NewOwner {
            name: "A".to_owned(),
            email: "a@example.test".to_owned(),
        };
        let mut tx = self.state.store.begin().await.unwrap();
        let account = accounts::create(
            &mut tx,
            &self.state.at_rest,
            "netbird.selfhosted",
            &owner,
            self.now(),
        )
        .await
        .unwrap();
        let token = Token::generate(TokenKind::PersonalAccess);
        tx.insert_personal_token(&PersonalTokenRow {
            id: TokenId::from(Xid::generate(self.now())),
            user_id: account.owner.clone(),
            name: "test".to_owned(),
            hashed_token: token.hash(),
            expires_at: self.now().saturating_add(Duration::from_hours(24)),
            created_by: account.owner.clone(),
            created_at: self.now(),
            last_used: None,
        })
        .await
        .unwrap();
        tx.commit().await.unwrap();
        TestAccount {
            scope: account.scope,
            owner: account.owner,
            all: account.all,
            token: token.expose().to_owned(),
        }
    }

    /// Puts a peer into an account and its group All.
    pub(crate) async fn peer(&self, account: &TestAccount, name: &str, last_octet: u8) -> PeerId {
        let id = PeerId::from(Xid::generate(self.now()));
        let ip = Ipv4Addr::new(100, 64, 0, last_octet);
        let mut tx = self.state.store.begin().await.unwrap();
        sqlx::query(
            "INSERT INTO peers (id, account_id, key, ip, name, dns_label, last_seen, created_at, meta) \
             VALUES ($1, $2, $3, $4, $5, $5, $6, $6, $7)",
        )
        .bind(id.as_str())
        .bind(account.scope.account().as_str())
        .bind(WgPrivateKey::generate().public().to_string())
        .bind(ip.to_string())
        .bind(name)
        .bind(self.now().as_nanos())
        .bind(format!("{{\"hostname\":\"{name}\"}}"))
        .execute(tx.conn())
        .await
        .unwrap();
        tx.add_group_peer(&account.scope, &account.all, &id)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Puts a connected proxy with custom ports into a cluster; of one account or of all.
    pub(crate) async fn proxy(&self, cluster: &str, account: Option<&TestAccount>) {
        let mut tx = self.state.store.begin().await.unwrap();
        sqlx::query(
            "INSERT INTO proxies (id, session_id, cluster_address, account_id, last_seen, connected_at, status, \
             supports_custom_ports, require_subdomain) VALUES ($1, 's', $2, $3, $4, $4, 'connected', TRUE, FALSE)",
        )
        .bind(Xid::generate(self.now()).to_string())
        .bind(cluster)
        .bind(account.map(|account| account.scope.account().as_str()))
        .bind(self.now().as_nanos())
        .execute(tx.conn())
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// A proxy token that serves all accounts, for so long.
    pub(crate) async fn proxy_token(&self, life: Option<Duration>) -> TokenId {
        let id = TokenId::from(Xid::generate(self.now()));
        let mut tx = self.state.store.begin().await.unwrap();
        tx.insert_proxy_token(&ProxyTokenRow {
            id: id.clone(),
            name: "test".to_owned(),
            hashed_token: Token::generate(TokenKind::Proxy).hash(),
            account_id: None,
            expires_at: life.map(|life| self.now().saturating_add(life)),
            created_by: "CLI".to_owned(),
            created_at: self.now(),
            last_used: None,
            revoked: false,
        })
        .await
        .unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Registers the peer of a proxy by a token.
    pub(crate) async fn register_proxy_by(
        &self,
        account: &TestAccount,
        key: WgPublicKey,
        cluster: &str,
        token: &TokenId,
    ) -> Result<PeerId, UseCaseError> {
        register_proxy_peer(&self.state, account.scope.account(), key, cluster, token).await
    }

    /// Registers the peer of a proxy by a fresh token.
    pub(crate) async fn register_proxy(
        &self,
        account: &TestAccount,
        key: WgPublicKey,
        cluster: &str,
    ) -> Result<PeerId, UseCaseError> {
        let token = self.proxy_token(None).await;
        self.register_proxy_by(account, key, cluster, &token).await
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }
}
