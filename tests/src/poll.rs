//! Waiting for something to become true.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(25);

/// Asks until the answer is `Ok`, and returns it with the time that took.
///
/// # Panics
/// When the answer is still an error at the deadline; the last one is shown.
pub async fn within<T, E: Display>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        let error = match tokio::time::timeout(deadline, ask()).await {
            Ok(Ok(value)) => return (value, start.elapsed()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        assert!(
            start.elapsed() < deadline,
            "{what}: not within {deadline:?}; last: {error}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Asks for at most thirty seconds: for what must happen, however busy the machine is.
///
/// # Panics
/// When it does not happen.
pub async fn eventually<T, E: Display>(what: &str, ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(Duration::from_secs(30), what, ask).await.0
}
