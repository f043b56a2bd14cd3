//! Caps on connections and requests.

use super::client::{Client, Http, get};
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

#[tokio::test]
async fn requests_beyond_the_cap_are_told_to_come_again() {
    let origin = Origin::start().await;
    let edge = TestEdge::start_with(vec![app(origin.address)], 1).await;
    let client = Client::connect(&edge, "app.test", Http::Two).await;
    let Client::Two(send) = client else {
        panic!("HTTP/2 was asked for")
    };
    let (mut first, mut second) = (Client::Two(send.clone()), Client::Two(send));
    let waiting = tokio::spawn(async move { first.send(get("app.test", "/hang")).await });
    eventually("the request arrives", || origin.requests() == 1).await;

    let refused = second.get("app.test", "/").await;
    waiting.abort();
    let _ = waiting.await;
    edge.next_log().await;
    let ended = edge.next_log().await;
    let later = second.get("app.test", "/").await;

    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    assert_eq!(ended.response_code, 499);
    assert_eq!(later.status, 200);
}
