use std::time::Duration;

use meshgate_proto::{GroupId, PeerId, TokenId, UserId, Xid};
use serde_json::Value;

use super::compare::Vars;
use super::load;
use crate::authz::Role;
use crate::setup_keys::{self, NewSetupKey};
use crate::store::groups::GroupRow;
use crate::store::users::UserRow;
use crate::test_support::{TestAccount, World};
use crate::tokens::{self, NewPersonalToken, NewProxyToken};

/// The account as it was when the calls were recorded.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) vars: Vars,
    account: TestAccount,
    peer: PeerId,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let world = World::new().await;
        let account = world.account().await;
        let mut vars = Vars::default();
        vars.set("owner_pat", account.token.clone());
        vars.set("all", account.all.as_str());
        vars.set("cluster", "proxy.test");
        vars.set("stub_host", "10.99.N.1");
        vars.set("stub_port", "18080");
        for name in ["r_net", "r_dom"] {
            vars.set(name, "d0000000000000000000");
        }
        let peer1 = world.peer(&account, "peer1", 7).await;
        world.peer(&account, "peer2", 8).await;
        vars.set("peer_id", peer1.as_str());
        vars.set("peer_ip", "100.64.0.7");
        let mut scene = Self {
            world,
            vars,
            account,
            peer: peer1,
        };
        scene.peers().await;
        scene.cluster().await;
        scene.tokens().await;
        scene
    }

    /// A live proxy reports every new service at once.
    pub(super) async fn settle(&self) {
        let mut tx = self.world.state.store.begin().await.unwrap();
        sqlx::query("UPDATE services SET status = 'active', certificate_issued_at = $1")
            .bind(self.world.now().as_nanos())
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// Groups that recorded calls made; making them is not part of the API yet.
    pub(super) async fn groups(&mut self) {
        for name in ["g1", "g2", "g3"] {
            let id = GroupId::from(Xid::generate(self.world.now()));
            self.vars.set(name, id.as_str());
            let scope = &self.account.scope;
            let mut tx = self.world.state.store.begin().await.unwrap();
            tx.insert_group(&GroupRow {
                id: id.clone(),
                account_id: scope.account().clone(),
                name: name.to_owned(),
                issued: "api".to_owned(),
                resources: Vec::new(),
                created_at: self.world.now(),
            })
            .await
            .unwrap();
            if name == "g2" {
                tx.add_group_peer(scope, &id, &self.peer).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
    }

    async fn peers(&self) {
        let mut tx = self.world.state.store.begin().await.unwrap();
        let text = "UPDATE peers SET connected = TRUE, connection_ip = '10.99.N.2', \
                    last_login = $1, meta = '{\"hostname\":\"' || name || '\",\"flags\":{\"disable_dns\":true}}', ipv6 = 'fd00::' || substr(ip, 10)";
        sqlx::query(text)
            .bind(self.world.now().as_nanos())
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn cluster(&self) {
        self.world.proxy("proxy.test", Some(&self.account)).await;
        let mut tx = self.world.state.store.begin().await.unwrap();
        sqlx::query("UPDATE proxies SET supports_crowdsec = FALSE, private = FALSE")
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn tokens(&mut self) {
        let account = &self.account;
        let (store, now) = (&self.world.state.store, self.world.now());
        let p1 = NewProxyToken {
            name: "p1".to_owned(),
            expires_in: 0,
        };
        tokens::create_proxy_token(store, &account.actor(), p1, now)
            .await
            .unwrap();
        let k = NewSetupKey {
            name: "k".to_owned(),
            kind: "reusable".to_owned(),
            expires_in: 86_400,
            auto_groups: Vec::new(),
            usage_limit: 0,
            ephemeral: false,
            allow_extra_dns_labels: false,
        };
        let key = setup_keys::create(store, &account.actor(), k, now).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        for _ in 0..2 {
            assert!(tx.use_setup_key(&account.scope, &key.row.id, now).await.unwrap());
        }
        sqlx::query("UPDATE proxy_access_tokens SET last_used = $1")
            .bind(now.as_nanos())
            .execute(tx.conn())
            .await
            .unwrap();
        let user = UserId::new("network-admin");
        tx.insert_user(&UserRow {
            id: user.clone(),
            account_id: account.scope.account().clone(),
            role: Role::NetworkAdmin,
            is_service_user: true,
            non_deletable: false,
            service_user_name: "net".to_owned(),
            auto_groups: Vec::new(),
            blocked: false,
            pending_approval: false,
            last_login: None,
            created_at: now,
            issued: "api".to_owned(),
            name: String::new(),
            email: String::new(),
        })
        .await
        .unwrap();
        let (row, token) = tokens::make_personal_token(
            NewPersonalToken {
                user: user.clone(),
                name: "t".to_owned(),
                days: 1,
            },
            &user,
            now,
        )
        .unwrap();
        tx.insert_personal_token(&row).await.unwrap();
        self.vars.set("pat_net", token.expose());
        let mut expired = row;
        let token = meshgate_proto::token::Token::generate(meshgate_proto::token::TokenKind::PersonalAccess);
        expired.id = TokenId::from(Xid::generate(now));
        expired.hashed_token = token.hash();
        expired.expires_at = now;
        tx.insert_personal_token(&expired).await.unwrap();
        self.vars.set("pat_exp", token.expose());
        tx.commit().await.unwrap();
    }

    /// The recorded access logs, newest first.
    pub(super) async fn logs(&self) {
        let recorded = load("access_logs").remove(0).response;
        let mut tx = self.world.state.store.begin().await.unwrap();
        for (age, entry) in recorded["data"].as_array().unwrap().iter().enumerate() {
            let text = |key: &str| {
                entry
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let service = text("service_id").replace("<s17>", "${s17}");
            let service = match service.as_str() {
                "<id>" => Xid::generate(self.world.now()).to_string(),
                named => self.vars.fill(named).unwrap(),
            };
            let at = self.world.now().saturating_sub(Duration::from_secs(age as u64));
            sqlx::query(
                "INSERT INTO access_log_entries (id, account_id, service_id, timestamp, method, host, path, duration, \
                 status_code, source_ip, reason, auth_method_used, protocol) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 1500000, $8, $9, $10, $11, $12)",
            )
            .bind(Xid::generate(at).to_string())
            .bind(self.account.scope.account().as_str())
            .bind(service)
            .bind(at.as_nanos())
            .bind(text("method"))
            .bind(text("host"))
            .bind(text("path"))
            .bind(entry["status_code"].as_i64().unwrap())
            .bind(text("source_ip"))
            .bind(text("reason"))
            .bind(text("auth_method_used"))
            .bind(text("protocol"))
            .execute(tx.conn())
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
    }
}
