//! Forgets old entries, a little at a time so that other writers get their turn.

use std::time::Duration;

use meshgate_proto::UnixTime;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store::{Store, StoreError};

const CHUNK: u32 = 1_000;
const INTERVAL: Duration = Duration::from_hours(1);

/// Forgets entries beyond the configured age, at the start and then hourly, until `shutdown`.
pub async fn run(state: &State, shutdown: CancellationToken) {
    let Some(age) = state.config.access_log_retention else {
        return;
    };
    let mut turns = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = turns.tick() => {}
        }
        let before = state.clock.now().saturating_sub(age);
        tokio::select! {
            () = shutdown.cancelled() => return,
            done = forget_before(&state.store, before) => match done {
                Ok(0) => {}
                Ok(entries) => tracing::info!(entries, "Old access log entries were removed"),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "Old access log entries could not be removed"
                ),
            }
        }
    }
}

/// Forgets all entries from before `before`, each thousand in a transaction of its own; tells how many.
pub async fn forget_before(store: &Store, before: UnixTime) -> Result<u64, StoreError> {
    let mut all = 0;
    loop {
        let mut tx = store.begin().await?;
        let gone = tx.delete_access_logs_anywhere(before, CHUNK).await?;
        tx.commit().await?;
        all += gone;
        if gone < u64::from(CHUNK) {
            return Ok(all);
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::World;

    #[tokio::test]
    async fn forgets_what_is_too_old_in_chunks() {
        let world = World::new().await;
        let mut tx = world.state.store.begin().await.unwrap();
        for n in 0..2_500 {
            sqlx::query(
                "INSERT INTO access_log_entries (id, account_id, service_id, timestamp, method, host, path, duration, \
                 status_code) VALUES ($1, 'a', 's', $2, '', '', '', 0, 200)",
            )
            .bind(format!("log-{n}"))
            .bind(i64::from(n))
            .execute(tx.conn())
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();

        let gone = forget_before(&world.state.store, UnixTime::from_nanos(2_400))
            .await
            .unwrap();

        assert_eq!(gone, 2_400);
        assert_eq!(
            forget_before(&world.state.store, UnixTime::from_nanos(2_400))
                .await
                .unwrap(),
            0
        );
    }
}
