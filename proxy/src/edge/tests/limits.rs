//! Caps on connections.

use super::client::{Client, Http};
use super::harness::{TestEdge, app, eventually};
use super::origin::Origin;

#[tokio::test]
async fn clients_beyond_the_cap_wait_for_room() {
    let origin = Origin::start().await;
    let edge = TestEdge::start_with(vec![app(origin.address)], 1).await;
    let mut first = Client::connect(&edge, "app.test", Http::One).await;
    first.get("app.test", "/").await;

    let second = async {
        let mut second = Client::connect(&edge, "app.test", Http::One).await;
        second.get("app.test", "/").await.status
    };
    tokio::pin!(second);
    let waits = tokio::time::timeout(std::time::Duration::from_millis(100), &mut second).await;
    assert!(waits.is_err());
    drop(first);

    assert_eq!(second.await, 200);
    eventually("connections end", || edge.edge.open_connections() <= 1).await;
}
