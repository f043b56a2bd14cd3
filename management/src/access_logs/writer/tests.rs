use std::collections::BTreeMap;

use meshgate_proto::{AccessLogId, AccountId, ServiceId, UnixTime};

use super::*;
use crate::test_support::World;

fn entry(id: &str) -> AccessLogRow {
    AccessLogRow {
        id: AccessLogId::new(id),
        account_id: AccountId::new("acc"),
        service_id: ServiceId::new("svc"),
        timestamp: UnixTime::from_secs(1_000),
        method: "GET".to_owned(),
        host: "a.test".to_owned(),
        path: "/".to_owned(),
        duration_nanos: 5,
        status_code: 200,
        source_ip: "192.0.2.1".to_owned(),
        reason: String::new(),
        user_id: String::new(),
        auth_method_used: String::new(),
        country_code: String::new(),
        city_name: String::new(),
        subdivision_code: String::new(),
        bytes_upload: 1,
        bytes_download: u64::MAX,
        protocol: "http".to_owned(),
        metadata: BTreeMap::new(),
        agent_network: false,
    }
}

async fn stored(world: &World) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM access_log_entries")
        .fetch_one(world.state.store.reader())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_flood_takes_few_transactions_and_is_all_accounted_for() {
    let world = World::new().await;
    let (sink, writer) = access_log_queue(4_000);
    for n in 0..10_000 {
        sink.push(entry(&format!("log-{n}")));
    }
    let shutdown = CancellationToken::new();
    shutdown.cancel();

    writer.run(world.state.store.clone(), shutdown).await;

    let stats = sink.stats();
    assert_eq!((stats.accepted, stats.dropped), (4_000, 6_000));
    assert_eq!((stats.written, stats.failed), (4_000, 0));
    assert_eq!(stats.transactions, 8);
    assert_eq!(stored(&world).await, 4_000);
}

#[tokio::test]
async fn a_repeated_report_is_written_once() {
    let world = World::new().await;
    let (sink, writer) = access_log_queue(10);
    for _ in 0..3 {
        sink.push(entry("same"));
    }
    let shutdown = CancellationToken::new();
    shutdown.cancel();

    writer.run(world.state.store.clone(), shutdown).await;

    assert_eq!(stored(&world).await, 1);
}

#[tokio::test]
async fn single_entries_are_written_without_a_shutdown() {
    let world = World::new().await;
    let (sink, writer) = access_log_queue(10);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(writer.run(world.state.store.clone(), shutdown.clone()));

    sink.push(entry("one"));
    while sink.stats().written == 0 {
        tokio::task::yield_now().await;
    }

    assert_eq!(stored(&world).await, 1);
    shutdown.cancel();
    running.await.unwrap();
    sink.push(entry("late"));
    assert_eq!(sink.stats().dropped, 1);
}
