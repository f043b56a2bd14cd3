use meshgate_proto::Xid;

use super::*;
use crate::test_support::{START, TestAccount, World};

#[tokio::test]
async fn newest_come_first_and_pages_follow_each_other() {
    let (world, account) = filled().await;
    let store = &world.state.store;
    let filter = LogFilter::default();

    let first = page(&world, &account, &filter, 0).await;
    let second = page(&world, &account, &filter, 2).await;

    assert_eq!(first, ["/c", "/b%"]);
    assert_eq!(second, ["/a"]);
    assert_eq!(store.count_access_logs(&account.scope, &filter).await.unwrap(), 3);
}

#[tokio::test]
async fn whole_values_must_fit_exactly() {
    let (world, account) = filled().await;
    let cases: &[(&[&str], Narrow)] = &[
        (&["/b%"], |f| f.method = "POST".to_owned()),
        (&[], |f| f.method = "post".to_owned()),
        (&["/b%", "/a"], |f| f.host = "one.test".to_owned()),
        (&[], |f| f.host = "one".to_owned()),
        (&["/c"], |f| f.source_ip = "10.0.0.3".to_owned()),
        (&["/a"], |f| f.user_id = "u1".to_owned()),
        (&["/a"], |f| f.users = vec!["u1".to_owned(), "u2".to_owned()]),
        (&["/c"], |f| f.status_code = Some(500)),
        (&["/c"], |f| f.service = Some(ServiceId::new("s2"))),
    ];

    assert_cases(&world, &account, cases).await;
}

#[tokio::test]
async fn parts_outcomes_and_times_narrow() {
    let (world, account) = filled().await;
    let cases: &[(&[&str], Narrow)] = &[
        (&["/b%"], |f| f.path = "%".to_owned()),
        (&[], |f| f.path = "_".to_owned()),
        (&["/c"], |f| f.search = "two.t".to_owned()),
        (&["/a"], |f| f.outcome = Some(LogOutcome::Success)),
        (&["/c", "/b%"], |f| f.outcome = Some(LogOutcome::Failed)),
        (&["/c", "/b%"], |f| {
            f.start = Some(UnixTime::from_secs(START.as_secs() + 2));
        }),
        (&["/a"], |f| {
            f.end = Some(UnixTime::from_secs(START.as_secs() + 1));
        }),
    ];

    assert_cases(&world, &account, cases).await;
}

#[tokio::test]
async fn every_order_works_in_both_directions() {
    let (world, account) = filled().await;
    for by in LogColumn::ALL {
        let mut seen = Vec::new();
        for direction in [LogDirection::Ascending, LogDirection::Descending] {
            let order = LogOrder { by, direction };
            let rows = world
                .state
                .store
                .access_log_page(&account.scope, &LogFilter::default(), order, 10, 0)
                .await
                .unwrap();
            assert_eq!(rows.len(), 3, "{by:?}");
            seen.push(rows[0].path.clone());
        }
        assert_eq!(LogColumn::from_word(by.as_str()), Some(by));
        if by == LogColumn::Path {
            assert_eq!(seen, ["/a", "/c"]);
        }
    }
}

#[tokio::test]
async fn other_accounts_see_nothing() {
    let (world, _account) = filled().await;
    let other = world.account().await;

    assert!(page(&world, &other, &LogFilter::default(), 0).await.is_empty());
}

/// Narrows a filter that lets everything pass.
type Narrow = fn(&mut LogFilter);

async fn assert_cases(world: &World, account: &TestAccount, cases: &[(&[&str], Narrow)]) {
    for (expected, narrow) in cases {
        let mut filter = LogFilter::default();
        narrow(&mut filter);
        assert_eq!(page(world, account, &filter, 0).await, *expected, "{filter:?}");
    }
}

async fn page(world: &World, account: &TestAccount, filter: &LogFilter, offset: u64) -> Vec<String> {
    let rows = world
        .state
        .store
        .access_log_page(&account.scope, filter, LogOrder::default(), 2, offset)
        .await
        .unwrap();
    rows.into_iter().map(|row| row.path).collect()
}

async fn filled() -> (World, TestAccount) {
    let world = World::new().await;
    let account = world.account().await;
    let entries = [
        ("s1", 1, "GET", "one.test", "/a", 200, "10.0.0.1", "u1"),
        ("s1", 2, "POST", "one.test", "/b%", 401, "10.0.0.2", ""),
        ("s2", 3, "GET", "two.test", "/c", 500, "10.0.0.3", ""),
    ];
    let mut tx = world.state.store.begin().await.unwrap();
    for (service, second, method, host, path, status, source, user) in entries {
        sqlx::query(
            "INSERT INTO access_log_entries (id, account_id, service_id, timestamp, method, host, path, duration, \
             status_code, source_ip, user_id) VALUES ($1, $2, $3, $4, $5, $6, $7, 1000, $8, $9, $10)",
        )
        .bind(Xid::generate(world.now()).to_string())
        .bind(account.scope.account().as_str())
        .bind(service)
        .bind(UnixTime::from_secs(START.as_secs() + second).as_nanos())
        .bind(method)
        .bind(host)
        .bind(path)
        .bind(status)
        .bind(source)
        .bind(user)
        .execute(tx.conn())
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    (world, account)
}
