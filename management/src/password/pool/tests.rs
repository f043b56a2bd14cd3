use futures::future::join_all;

use super::*;

#[tokio::test]
async fn hashes_and_compares_off_the_runtime() {
    let pool = PasswordPool::start(PoolLimits::default()).unwrap();

    let hash = pool.hash("s3cret".into()).await.unwrap();

    assert_eq!(
        pool.verify("a", "s3cret".into(), vec![hash.clone()]).await,
        Ok(true)
    );
    assert_eq!(
        pool.verify("a", "other".into(), vec![hash.clone()]).await,
        Ok(false)
    );
    let damaged = PasswordHash::new("$argon2id$");
    assert_eq!(
        pool.verify("a", "s3cret".into(), vec![damaged.clone(), hash])
            .await,
        Ok(true)
    );
    assert_eq!(
        pool.verify("a", "x".into(), vec![damaged]).await,
        Err(PasswordFault::UnusableHash.into())
    );
    assert_eq!(
        pool.verify("a", "x".repeat(5000).into(), vec![]).await,
        Err(PasswordFault::TooLong.into())
    );
}

#[tokio::test]
async fn two_hundred_forty_guesses_use_two_memory_areas() {
    let pool = PasswordPool::start(PoolLimits::default()).unwrap();
    let hash = pool.hash("s3cret".into()).await.unwrap();

    let guesses = (0..240).map(|n| {
        let (pool, hash) = (pool.clone(), hash.clone());
        async move {
            pool.verify(&format!("line {}", n % 30), "guess".into(), vec![hash])
                .await
        }
    });
    let outcomes = join_all(guesses).await;

    let wrong = outcomes.iter().filter(|outcome| **outcome == Ok(false)).count();
    let busy = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(PasswordError::Busy))
        .count();
    let stats = pool.stats();
    assert_eq!(wrong + busy, 240);
    assert!(wrong >= 64, "{wrong}");
    assert!(stats.most_areas <= 2, "{stats:?}");
    assert_eq!(stats.refused, busy);
}

#[tokio::test]
async fn one_line_cannot_fill_the_queue_and_settings_go_first() {
    let limits = PoolLimits {
        threads: 1,
        queue: 64,
        per_line: 4,
    };
    let pool = PasswordPool::start(limits).unwrap();
    let hash = pool.hash("s3cret".into()).await.unwrap();

    let attack = join_all((0..50).map(|_| pool.verify("attacked", "guess".into(), vec![hash.clone()])));
    let owner = async {
        (
            pool.verify("neighbour", "s3cret".into(), vec![hash.clone()])
                .await,
            pool.hash("new".into()).await,
        )
    };
    let (attack, (neighbour, set)) = tokio::join!(attack, owner);

    let answered = attack.iter().filter(|outcome| **outcome == Ok(false)).count();
    assert!((4..50).contains(&answered), "{answered}");
    assert_eq!(neighbour, Ok(true));
    assert!(set.is_ok());
}

#[tokio::test]
async fn abandoned_guesses_are_not_computed() {
    let pool = PasswordPool::start(PoolLimits {
        threads: 1,
        queue: 64,
        per_line: 64,
    })
    .unwrap();
    let hash = pool.hash("s3cret".into()).await.unwrap();

    for _ in 0..40 {
        let verify = pool.verify("a", "guess".into(), vec![hash.clone()]);
        let mut verify = Box::pin(verify);
        assert!(futures::poll!(&mut verify).is_pending());
    }

    assert_eq!(pool.verify("b", "s3cret".into(), vec![hash]).await, Ok(true));
    assert!(pool.stats().done < 40, "{:?}", pool.stats());
}
