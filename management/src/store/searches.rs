//! The reader of searches: one connection of their own, and a limit on how long a statement runs.
//!
//! A search through all access logs may read gigabytes. It shares no connection with the reads that answer
//! requests, takes its turn after other searches, and is interrupted when it takes too long or the store closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};

use super::StoreError;

/// Longest wait for the turn, and longest time of a statement.
const LIMIT: Duration = Duration::from_secs(5);
/// Instructions of the database between two looks at the time.
const LOOK_EVERY: i32 = 10_000;
/// What the database says of an interrupted statement.
const INTERRUPTED: &str = "9";

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Searches {
    pool: SqlitePool,
    closing: Arc<AtomicBool>,
}

impl Searches {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LIMIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        Ok(Self {
            pool,
            closing: Arc::default(),
        })
    }

    /// The connection, when it is free.
    pub(super) async fn begin(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.begin_within(LIMIT).await
    }

    async fn begin_within(&self, limit: Duration) -> Result<PoolConnection<Sqlite>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(fault)?;
        let (closing, deadline) = (Arc::clone(&self.closing), Instant::now() + limit);
        connection
            .lock_handle()
            .await?
            .set_progress_handler(LOOK_EVERY, move || {
                !closing.load(Ordering::Relaxed) && Instant::now() < deadline
            });
        Ok(connection)
    }

    /// Interrupts what runs.
    pub(super) async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.pool.close().await;
    }
}

/// What a search that took too long is to its caller.
pub(super) fn fault(error: sqlx::Error) -> StoreError {
    let interrupted = error
        .as_database_error()
        .and_then(DatabaseError::code)
        .is_some_and(|code| code == INTERRUPTED);
    if interrupted || matches!(error, sqlx::Error::PoolTimedOut) {
        return StoreError::Busy;
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    /// Ends with the heat death of the universe.
    const ENDLESS: &str =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";

    async fn search(searches: &Searches, limit: Duration) -> Result<(), StoreError> {
        let mut connection = searches.begin_within(limit).await?;
        let done = sqlx::query(ENDLESS).fetch_one(&mut *connection).await;
        done.map(|_| ()).map_err(fault)
    }

    #[tokio::test]
    async fn a_search_that_takes_too_long_is_interrupted_and_the_next_one_runs() {
        let world = World::new().await;
        let searches = &world.state.store.searches;

        let endless = search(searches, Duration::from_millis(50)).await;
        let mut connection = searches.begin().await.unwrap();
        let next = sqlx::query("SELECT 1").fetch_one(&mut *connection).await;

        assert!(matches!(endless, Err(StoreError::Busy)), "{endless:?}");
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn searches_hold_up_neither_reads_nor_the_end() {
        let world = World::new().await;
        let account = world.account().await;
        let store = world.state.store.clone();
        let running: Vec<_> = (0..20)
            .map(|_| {
                let searches = store.searches.clone();
                tokio::spawn(async move { search(&searches, Duration::from_hours(1)).await })
            })
            .collect();
        while store.searches.pool.num_idle() > 0 {
            tokio::task::yield_now().await;
        }

        assert!(store.account(&account.scope).await.unwrap().is_some());
        store.close().await;
        for search in running {
            assert!(search.await.unwrap().is_err());
        }
    }
}
