//! Tests that load the machine, or measure how fast something happens, take turns.

use tokio::sync::{Semaphore, SemaphorePermit};

static TURN: Semaphore = Semaphore::const_new(1);

/// Waits until no other test that asked has the turn; it ends when the answer is dropped.
///
/// # Panics
/// Never: nobody closes the queue.
pub async fn alone() -> SemaphorePermit<'static> {
    TURN.acquire().await.expect("nobody closes the queue")
}
