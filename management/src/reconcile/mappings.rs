//! Publishes mappings: brings what each connected proxy knows to what is stored.
//!
//! A proxy's stream has a [`Publisher`] of its own. It remembers what it sent, so a change that makes no
//! difference to that proxy costs no message, and one rule, [`desired_mapping`], decides for the snapshot and
//! for every later change. The [`MappingHub`] passes on only *which* service changed; the publisher reads the
//! present state itself, so it can never send an older state after a newer one.

pub mod desired;
pub mod hub;
pub mod published;
pub mod publisher;
pub mod size;

pub use desired::{ProxyView, TargetHosts, desired_mapping};
pub use hub::{Connection, Dirty, MappingHub, StreamEnd};
pub use published::Published;
pub use publisher::{Publisher, PublisherSettings};

use meshgate_proto::PeerId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::actor::Scope;
use crate::changes::Change;
use crate::store::{Store, StoreError};

/// Passes changes on to the publishers until `shutdown`.
///
/// When it falls behind it ends all streams: the proxies come back for a whole snapshot.
pub async fn run(store: Store, mut changes: Receiver<Change>, hub: &MappingHub, shutdown: CancellationToken) {
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(change) => pass_on(&store, hub, change).await,
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "Too many changes at once; proxies start over");
                hub.end_all(StreamEnd::Overflow);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn pass_on(store: &Store, hub: &MappingHub, change: Change) {
    match change {
        Change::Service { account, service } | Change::ServiceRemoved { account, service, .. } => {
            hub.mark(
                &account,
                &Dirty::Service {
                    account: account.clone(),
                    service,
                },
            );
        }
        Change::Peer { account, peer } | Change::PeerRemoved { account, peer, .. } => {
            let scope = Scope::authenticated(account.clone());
            match is_target(store, &scope, &peer).await {
                Ok(false) => {}
                Ok(true) => hub.mark(
                    &account,
                    &Dirty::Target {
                        account: account.clone(),
                        target: peer,
                    },
                ),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "Could not look up services of a peer"
                    );
                    hub.end_all(StreamEnd::Overflow);
                }
            }
        }
        Change::ProxyTokenRevoked { token } => hub.end_token(&token),
        // Mappings name addresses of peers and nothing else of them.
        Change::PeerMeta { .. }
        | Change::Account { .. }
        | Change::Group { .. }
        | Change::Policy { .. }
        | Change::ProxiesChanged { .. } => {}
    }
}

async fn is_target(store: &Store, scope: &Scope, peer: &PeerId) -> Result<bool, StoreError> {
    Ok(!store
        .services_with_target(scope, peer.as_str(), None, 1)
        .await?
        .is_empty())
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{AccountId, ProxyCapabilities, ProxyId, TokenId};
    use uuid::Uuid;

    use super::*;
    use crate::changes::Changes;
    use crate::test_support::World;

    #[tokio::test]
    async fn what_a_target_says_of_itself_makes_no_work() {
        let world = World::new().await;
        let account = world.account().await;
        let peer = world.peer(&account, "agent", 9).await;
        let (hub, mut tx) = (MappingHub::default(), world.state.store.begin().await.unwrap());
        sqlx::query(
            "INSERT INTO services (id, account_id, name, domain, proxy_cluster, enabled, pass_host_header, \
             rewrite_redirects, created_at, status, session_private_key, session_public_key, mode) \
             VALUES ('s', $1, 's', 's.proxy.test', 'proxy.test', TRUE, FALSE, FALSE, 0, 'pending', '', '', 'http')",
        )
        .bind(account.scope.account().as_str())
        .execute(tx.conn())
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO targets (id, account_id, service_id, position, path, host, port, protocol, target_id, \
             target_type, enabled) VALUES ('t', $1, 's', 0, '/', '', 80, 'http', $2, 'peer', TRUE)",
        )
        .bind(account.scope.account().as_str())
        .bind(peer.as_str())
        .execute(tx.conn())
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let view = ProxyView {
            account: None,
            cluster: "proxy.test".to_owned(),
            capabilities: ProxyCapabilities::default(),
        };
        let mut connection = hub.connect(ProxyId::new("p"), Uuid::new_v4(), &view, TokenId::new("t"));
        let account = account.scope.account().clone();
        let changed = |meta| {
            let (account, peer) = (account.clone(), peer.clone());
            if meta {
                Change::PeerMeta { account, peer }
            } else {
                Change::Peer { account, peer }
            }
        };

        pass_on(&world.state.store, &hub, changed(true)).await;
        assert!(connection.dirty.try_recv().is_err());
        pass_on(&world.state.store, &hub, changed(false)).await;
        assert!(matches!(connection.dirty.try_recv(), Ok(Dirty::Target { .. })));
    }

    #[tokio::test]
    async fn lost_news_make_every_proxy_start_over() {
        let world = World::new().await;
        let (hub, changes) = (MappingHub::default(), Changes::new());
        let view = ProxyView {
            account: None,
            cluster: "proxy.test".to_owned(),
            capabilities: ProxyCapabilities::default(),
        };
        let mut connection = hub.connect(ProxyId::new("p"), Uuid::new_v4(), &view, TokenId::new("t"));
        let receiver = changes.subscribe();
        for _ in 0..10_000 {
            changes.publish(Change::Account {
                account: AccountId::new("a"),
            });
        }
        drop(changes);

        run(
            world.state.store.clone(),
            receiver,
            &hub,
            CancellationToken::new(),
        )
        .await;

        assert_eq!(connection.end.wait().await, StreamEnd::Overflow);
    }
}
