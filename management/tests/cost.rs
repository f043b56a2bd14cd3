//! Creating a service costs the same, however many there are: the same statements, and none that walks a table.

#![expect(clippy::unwrap_used, reason = "helpers of a test may fail it")]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use meshgate_management::accounts::NewOwner;
use meshgate_management::admin::Admin;
use meshgate_management::app::Management;
use meshgate_management::config::Config;
use meshgate_proto::{Clock as _, SystemClock, WgPrivateKey};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const CLUSTER: &str = "proxy.test";

/// Tables that grow with what an account has.
const GROWING: [&str; 4] = ["services", "targets", "peers", "access_log_entries"];

#[tokio::test]
async fn creating_a_service_costs_the_same_with_ten_and_with_ten_thousand() {
    let statements = Statements::default();
    tracing::subscriber::set_global_default(statements.clone()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path(), "http://127.0.0.1:0".parse().unwrap());
    let clock = Arc::new(SystemClock);
    let admin = Admin::open(&config, Arc::<SystemClock>::clone(&clock))
        .await
        .unwrap();
    let owner = NewOwner {
        name: "A".to_owned(),
        email: "a@example.test".to_owned(),
    };
    let first = admin.create_first_admin("net.test", &owner, 1).await.unwrap();
    let database = SqlitePool::connect(&format!("sqlite://{}", config.store_path().display()))
        .await
        .unwrap();
    let peer = add_peer(&database, first.account.as_str()).await;
    let server = Management::start(config, clock).await.unwrap();
    add_proxy(&database).await;
    let client = Client {
        http: reqwest::Client::new(),
        base: format!("http://{}", server.local_addr()),
        token: first.token.expose().to_owned(),
        peer,
    };

    client.create("warm-up").await;
    add_services(&database, first.account.as_str(), 10).await;
    let few = statements.during(client.create("few")).await;
    add_services(&database, first.account.as_str(), 10_000).await;
    let many = statements.during(client.create("many")).await;

    assert!(few.len() >= 5, "{few:?}");
    assert_eq!(few, many);
    for statement in few.iter().collect::<BTreeSet<_>>() {
        assert_no_walk(&database, statement).await;
    }
    server.shutdown().await;
}

async fn assert_no_walk(database: &SqlitePool, statement: &str) {
    let verb = statement
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_uppercase();
    if !["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&verb.as_str()) {
        return;
    }
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    for step in sqlx::query(explain).fetch_all(database).await.unwrap() {
        let detail: String = step.get("detail");
        let walks = GROWING
            .iter()
            .any(|table| detail.starts_with(&format!("SCAN {table}")));
        assert!(!walks, "{detail}: {statement}");
    }
}

struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    peer: String,
}

impl Client {
    async fn create(&self, name: &str) {
        let body = json!({"name": name, "domain": format!("{name}.{CLUSTER}"), "enabled": true, "targets": [
            {"target_id": self.peer, "target_type": "peer", "protocol": "http", "port": 8000, "enabled": true}]});
        let answer = self
            .http
            .post(format!("{}/api/reverse-proxies/services", self.base))
            .header("authorization", format!("Token {}", self.token))
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text: Value = answer.json().await.unwrap();
        assert_eq!(status, 200, "{text}");
    }
}

/// The statements about what grows that were run, in order of text.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    async fn during(&self, work: impl Future<Output = ()>) -> Vec<String> {
        self.0.lock().unwrap().clear();
        work.await;
        let mut seen = self.0.lock().unwrap().clone();
        seen.sort();
        seen
    }
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let statement = if text.whole.is_empty() {
            text.summary
        } else {
            text.whole
        };
        let statement = statement.trim();
        let data = ["SELECT", "INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|verb| statement.starts_with(verb));
        if data && GROWING.iter().any(|table| statement.contains(table)) {
            self.0.lock().unwrap().push(statement.to_owned());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

async fn add_peer(database: &SqlitePool, account: &str) -> String {
    let now = SystemClock.now().as_nanos();
    sqlx::query(
        "INSERT INTO peers (id, account_id, key, ip, name, dns_label, last_seen, created_at) \
         VALUES ('peer', $1, $2, '100.64.0.7', 'peer', 'peer', $3, $3)",
    )
    .bind(account)
    .bind(WgPrivateKey::generate().public().to_string())
    .bind(now)
    .execute(database)
    .await
    .unwrap();
    "peer".to_owned()
}

async fn add_proxy(database: &SqlitePool) {
    // Seen in the future, so that it stays connected as long as the test runs.
    sqlx::query(
        "INSERT INTO proxies (id, session_id, cluster_address, last_seen, connected_at, status) \
         VALUES ('proxy', 's', $1, $2, $2, 'connected')",
    )
    .bind(CLUSTER)
    .bind(
        SystemClock
            .now()
            .saturating_add(std::time::Duration::from_hours(1))
            .as_nanos(),
    )
    .execute(database)
    .await
    .unwrap();
}

/// Fills the account up to so many services with a target each.
async fn add_services(database: &SqlitePool, account: &str, count: i64) {
    let mut tx = database.begin().await.unwrap();
    for number in 0..count {
        sqlx::query(
            "INSERT INTO services (id, account_id, name, domain, proxy_cluster, enabled, pass_host_header, \
             rewrite_redirects, created_at, status, session_private_key, session_public_key, mode) \
             VALUES ($1, $2, $1, $1 || '.proxy.test', $3, TRUE, FALSE, FALSE, 1, 'active', '', '', 'http') \
             ON CONFLICT DO NOTHING",
        )
        .bind(format!("s{number}"))
        .bind(account)
        .bind(CLUSTER)
        .execute(&mut *tx)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO targets (id, account_id, service_id, position, port, protocol, target_id, target_type, enabled) \
             VALUES ($1, $2, $1, 0, 80, 'http', 'peer', 'peer', TRUE) ON CONFLICT DO NOTHING",
        )
        .bind(format!("s{number}"))
        .bind(account)
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
}
