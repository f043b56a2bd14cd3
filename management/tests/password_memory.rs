//! Memory under a storm of guesses, measured in a process of its own.

use futures::future::join_all;
use meshgate_management::password::{PasswordError, PasswordPool, PoolLimits};

#[tokio::test]
async fn two_hundred_forty_guesses_grow_memory_by_less_than_64_mib() {
    let pool = PasswordPool::start(PoolLimits::default()).unwrap();
    let before = resident_kib();
    let hash = pool.hash("s3cret".into()).await.unwrap();

    let guesses = (0..240).map(|n| {
        let (pool, hash) = (pool.clone(), hash.clone());
        async move {
            pool.verify(&format!("service {}", n % 30), "guess".into(), vec![hash])
                .await
        }
    });
    let outcomes = join_all(guesses).await;

    assert!(outcomes.iter().filter(|outcome| **outcome == Ok(false)).count() >= 64);
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Ok(false) | Err(PasswordError::Busy)))
    );
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "grew by {grown} KiB");
    assert!(pool.stats().most_areas <= 2);
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a number of KiB")
}
