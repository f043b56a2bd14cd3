//! Policies: which peers may reach which.

use std::collections::BTreeMap;

use meshgate_proto::{AccountId, GroupId, PolicyId, UnixTime};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::actor::Scope;
use crate::store::columns::{Columns, json_text};
use crate::store::groups::ResourceRef;
use crate::store::{Store, StoreError, Tx};

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// Its id.
    pub id: PolicyId,
    /// Its account.
    pub account_id: AccountId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// It counts.
    pub enabled: bool,
    /// Checks that sources must pass.
    pub source_posture_checks: Vec<String>,
    /// When it was made.
    pub created_at: UnixTime,
    /// What it says.
    pub rules: Vec<PolicyRuleRow>,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRuleRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// It counts.
    pub enabled: bool,
    /// `accept` or `drop`.
    pub action: String,
    /// It counts both ways.
    pub bidirectional: bool,
    /// `all`, `tcp`, `udp`, `icmp` or `netbird-ssh`.
    pub protocol: String,
    /// Groups it lets from.
    pub sources: Vec<GroupId>,
    /// Groups it lets to.
    pub destinations: Vec<GroupId>,
    /// One thing it lets from, instead of groups.
    pub source_resource: Option<ResourceRef>,
    /// One thing it lets to, instead of groups.
    pub destination_resource: Option<ResourceRef>,
    /// Ports; none and no ranges = all.
    pub ports: Vec<String>,
    /// Ranges of ports.
    pub port_ranges: Vec<PortRange>,
    /// Local users that a group may log in as.
    pub authorized_groups: BTreeMap<String, Vec<String>>,
}

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// First.
    pub start: u16,
    /// Last.
    pub end: u16,
}

fn policy_row(row: &SqliteRow) -> Result<PolicyRow, StoreError> {
    let row = Columns(row);
    Ok(PolicyRow {
        id: row.id("id")?,
        account_id: row.id("account_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        enabled: row.flag("enabled")?,
        source_posture_checks: row.json("source_posture_checks")?,
        created_at: row.time("created_at")?,
        rules: Vec::new(),
    })
}

fn policy_rule_row(row: &SqliteRow) -> Result<PolicyRuleRow, StoreError> {
    let row = Columns(row);
    let resource = |column: &'static str| {
        row.opt_text(column)?
            .map(|text| serde_json::from_str(&text).map_err(|_| StoreError::Corrupt { column }))
            .transpose()
    };
    Ok(PolicyRuleRow {
        id: row.text("id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        enabled: row.flag("enabled")?,
        action: row.text("action")?,
        bidirectional: row.flag("bidirectional")?,
        protocol: row.text("protocol")?,
        sources: row.json("sources")?,
        destinations: row.json("destinations")?,
        source_resource: resource("source_resource")?,
        destination_resource: resource("destination_resource")?,
        ports: row.json("ports")?,
        port_ranges: row.json("port_ranges")?,
        authorized_groups: row.json("authorized_groups")?,
    })
}

impl Store {
    /// All policies with their rules, oldest first.
    pub async fn policies(&self, scope: &Scope) -> Result<Vec<PolicyRow>, StoreError> {
        let mut conn = self.reader().acquire().await?;
        let rows = sqlx::query("SELECT * FROM policies WHERE account_id = $1 ORDER BY created_at, id")
            .bind(scope.account().as_str())
            .fetch_all(&mut *conn)
            .await?;
        let rules = sqlx::query("SELECT * FROM policy_rules WHERE account_id = $1 ORDER BY policy_id, id")
            .bind(scope.account().as_str())
            .fetch_all(&mut *conn)
            .await?;
        let mut by_policy: BTreeMap<PolicyId, Vec<PolicyRuleRow>> = BTreeMap::new();
        for row in &rules {
            let policy = Columns(row).id("policy_id")?;
            by_policy.entry(policy).or_default().push(policy_rule_row(row)?);
        }
        rows.iter()
            .map(|row| {
                let mut policy = policy_row(row)?;
                policy.rules = by_policy.remove(&policy.id).unwrap_or_default();
                Ok(policy)
            })
            .collect()
    }
}

impl Tx {
    /// Keeps a new policy with its rules.
    pub async fn insert_policy(&mut self, policy: &PolicyRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO policies (id, account_id, name, description, enabled, source_posture_checks, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(policy.id.as_str())
        .bind(policy.account_id.as_str())
        .bind(&policy.name)
        .bind(&policy.description)
        .bind(policy.enabled)
        .bind(json_text(&policy.source_posture_checks))
        .bind(policy.created_at.as_nanos())
        .execute(self.conn())
        .await?;
        for rule in &policy.rules {
            self.insert_policy_rule(policy, rule).await?;
        }
        Ok(())
    }

    async fn insert_policy_rule(
        &mut self,
        policy: &PolicyRow,
        rule: &PolicyRuleRow,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO policy_rules (id, policy_id, account_id, name, description, enabled, action, bidirectional, \
             protocol, sources, destinations, source_resource, destination_resource, ports, port_ranges, \
             authorized_groups) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(&rule.id)
        .bind(policy.id.as_str())
        .bind(policy.account_id.as_str())
        .bind(&rule.name)
        .bind(&rule.description)
        .bind(rule.enabled)
        .bind(&rule.action)
        .bind(rule.bidirectional)
        .bind(&rule.protocol)
        .bind(json_text(&rule.sources))
        .bind(json_text(&rule.destinations))
        .bind(rule.source_resource.as_ref().map(json_text))
        .bind(rule.destination_resource.as_ref().map(json_text))
        .bind(json_text(&rule.ports))
        .bind(json_text(&rule.port_ranges))
        .bind(json_text(&rule.authorized_groups))
        .execute(self.conn())
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    #[tokio::test]
    async fn what_is_inserted_is_read_back_in_its_account_only() {
        let world = World::new().await;
        let (ours, theirs) = (world.account().await, world.account().await);
        let policy = PolicyRow {
            id: PolicyId::new("p"),
            account_id: ours.scope.account().clone(),
            name: "web".to_owned(),
            description: "d".to_owned(),
            enabled: true,
            source_posture_checks: vec!["c".to_owned()],
            created_at: world.now(),
            rules: vec![PolicyRuleRow {
                id: "p".to_owned(),
                name: "r".to_owned(),
                description: String::new(),
                enabled: true,
                action: "drop".to_owned(),
                bidirectional: true,
                protocol: "tcp".to_owned(),
                sources: vec![ours.all.clone()],
                destinations: Vec::new(),
                source_resource: None,
                destination_resource: Some(ResourceRef {
                    id: "x".to_owned(),
                    kind: "peer".to_owned(),
                }),
                ports: vec!["80".to_owned()],
                port_ranges: vec![PortRange { start: 1, end: 2 }],
                authorized_groups: BTreeMap::new(),
            }],
        };
        let store = &world.state.store;
        let mut tx = store.begin().await.unwrap();
        tx.insert_policy(&policy).await.unwrap();
        tx.commit().await.unwrap();

        assert!(store.policies(&ours.scope).await.unwrap().contains(&policy));
        assert!(!store.policies(&theirs.scope).await.unwrap().contains(&policy));
    }
}
