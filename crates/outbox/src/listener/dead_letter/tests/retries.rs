//! Automatic retries: which dead letters they take, and for how long.

use super::*;
use crate::listener::dead_letter::retry_loop::{ERROR_WAIT, Pass};
use crate::listener::retry::POLL_INTERVAL;

#[tokio::test]
async fn a_dead_letter_that_is_not_the_first_of_its_key_is_not_retried() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.apply(None, &notes("a", &[1, 2])).await;
    // As where two partitions dead-lettered a first one of the key at once.
    let first_too =
        "update dead_letter set kind = 'deferred', retry_at = now() where kind = 'parked'";
    sqlx::query(first_too).execute(&fixture.pool).await.unwrap();
    fixture.retry_all().await;
    assert_eq!(
        fixture.kinds().await,
        [(1, Kind::Poison), (2, Kind::Parked)]
    );
    assert!(fixture.dead_letters.discard(id(1), "a test").await.unwrap());
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [2]);
}

#[tokio::test]
async fn slow_attempts_do_not_delay_another_dead_letter() {
    let fixture = Fixture::new().await;
    let slow: Vec<Message> = (1..=30).map(|event| note(event, None)).collect();
    for event in 1..=30 {
        fixture.set(event, Some(Behaviour::Deferred));
    }
    let settled = fixture.apply(None, &slow).await;
    for event in 1..=30 {
        fixture.set(event, Some(Behaviour::Slow(0)));
    }
    fixture.end_backoff().await;
    let pass = fixture.pass().await;
    assert!(pass.full, "there may be more whose `retry_at` has passed");
    assert!((2..30).contains(&pass.stayed), "{}", pass.stayed);

    fixture.set(31, Some(Behaviour::Deferred));
    fixture.apply(epoch(&settled), &[note(31, None)]).await;
    fixture.set(31, None);
    fixture.end_backoff().await;
    // It was tried once; of the others, those that were not tried again too.
    let once = "update dead_letter set attempts = 2 where attempts = 1 and id <> $1";
    let once = sqlx::query(once).bind(id(31));
    once.execute(&fixture.pool).await.unwrap();
    assert_eq!(fixture.pass().await.applied, 1);
}

#[tokio::test]
async fn a_dead_letter_that_another_worker_has_just_retried_is_skipped() {
    let seldom = RetryPolicy {
        initial_backoff: Duration::from_millis(60_000),
        max_backoff: Duration::from_secs(60),
        max_elapsed: Duration::from_secs(600),
    };
    let fixture = Fixture::with(BreakerPolicy::default(), seldom).await;
    for event in [1, 2] {
        fixture.set(event, Some(Behaviour::Deferred));
    }
    fixture.apply(None, &[note(1, None), note(2, None)]).await;
    fixture.set(1, None);
    fixture.end_backoff().await;
    // It has seen both, and stops with the first of them.
    let gate = fixture.hold();
    let transactions = Arc::clone(&fixture.applier.transactions);
    let stale =
        tokio::spawn(async move { transactions.retry_pass(&CancellationToken::new()).await });
    gate.reached.acquire().await.unwrap().forget();
    fixture.hold_no_more();
    assert_eq!(fixture.pass().await.stayed, 1);
    gate.open.add_permits(1);
    let stale = stale.await.unwrap().unwrap();
    assert_eq!((stale.applied, stale.stayed), (1, 0));
    let dead_letter = fixture.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!(dead_letter.attempts, 2);
}

#[tokio::test]
async fn those_with_the_fewest_attempts_and_those_that_wait_longest_alternate() {
    let fixture = Fixture::new().await;
    for event in 1..=4 {
        fixture.set(event, Some(Behaviour::Deferred));
    }
    let four: Vec<Message> = (1..=4).map(|event| note(event, None)).collect();
    fixture.apply(None, &four).await;
    for (event, attempts, seconds) in [(1, 9, 40), (2, 8, 30), (3, 1, 10), (4, 2, 20)] {
        fixture.set(event, None);
        let statement = "update dead_letter set attempts = $2, retry_at = now() - make_interval(secs => $3) where id = $1";
        let set = sqlx::query(statement)
            .bind(id(event))
            .bind(attempts)
            .bind(f64::from(seconds));
        set.execute(&fixture.pool).await.unwrap();
    }
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [3, 1, 4, 2]);
}

#[tokio::test]
async fn time_spent_parked_does_not_count_as_elapsed_retry_time() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.set(2, Some(Behaviour::Deferred));
    fixture.apply(None, &notes("a", &[1, 2])).await;
    let parked = fixture.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!(parked.attempts, 0);
    sqlx::query("update dead_letter set dead_lettered_at = now() - interval '1 day'")
        .execute(&fixture.pool)
        .await
        .unwrap();
    assert!(fixture.dead_letters.discard(id(1), "a test").await.unwrap());
    fixture.dead_letters.redrive(id(2)).await.unwrap();
    let deferred = fixture.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!((deferred.kind, deferred.attempts), (Kind::Deferred, 1));
    assert!(deferred.retry_at.is_some());
    fixture.set(2, None);
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [2]);
}

#[test]
fn automatic_retries_end_once_their_waits_add_up_to_the_bound() {
    let retry = RetryPolicy {
        initial_backoff: Duration::from_millis(1000),
        max_backoff: Duration::from_secs(4),
        max_elapsed: Duration::from_secs(20),
    };
    let waits: Vec<u64> = (1..)
        .map_while(|attempts| retry.next(attempts))
        .map(|wait| wait.as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4, 4, 4, 4]);
    let hasty = RetryPolicy {
        initial_backoff: Duration::from_millis(0),
        ..retry
    };
    assert_eq!(
        (1..).map_while(|attempts| hasty.next(attempts)).count(),
        40,
        "two a second"
    );
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_attempted_does_not_delay_others() {
    let fixture = Fixture::new().await;
    for event in [1, 2] {
        fixture.set(event, Some(Behaviour::Deferred));
    }
    let batch = [note(1, Some("a")), note(2, Some("b"))];
    assert_eq!(fixture.apply(None, &batch).await.dead_lettered, 2);
    fixture.set(1, Some(Behaviour::MissingTable));
    fixture.set(2, None);
    let stop = CancellationToken::new();
    let retrying = tokio::spawn(retry_loop::run(
        Arc::clone(&fixture.applier.transactions),
        stop.clone(),
    ));
    let applied = async |events: &[u128]| {
        eventually("it is applied", async || fixture.notes().await == events).await;
    };
    applied(&[2]).await;
    assert_eq!(fixture.kinds().await, [(1, Kind::Deferred)]);
    fixture.set(1, None);
    applied(&[2, 1]).await;
    stop.cancel();
    retrying.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_failing_dead_letters_does_not_delay_one_that_can_be_applied() {
    const HONEST: u128 = 3001;
    let all = (1..=HONEST).map(|event| note(event, Some(&event.to_string())));
    let all: Vec<Message> = all.collect();
    // One that is dead-lettered last, long after the flood has begun; one that waits already, while the flood comes.
    for (of_flood, of_honest) in [((5, 60), (1, 0)), ((1, 0), (5, 60))] {
        let fixture = Fixture::new().await;
        for event in 1..=HONEST {
            fixture.set(event, Some(Behaviour::Deferred));
        }
        fixture.apply(None, &all).await;
        let (attempts, waiting_for) = of_flood;
        for (is_honest, (attempts, waiting_for)) in [(false, of_flood), (true, of_honest)] {
            sqlx::query(
                "update dead_letter set attempts = $3, retry_at = now() - make_interval(secs => $4)
                 where (id = $1) = $2",
            )
            .bind(id(HONEST))
            .bind(is_honest)
            .bind(attempts)
            .bind(f64::from(waiting_for))
            .execute(&fixture.pool)
            .await
            .unwrap();
        }
        fixture.set(HONEST, None);
        let stop = CancellationToken::new();
        let retrying = tokio::spawn(retry_loop::run(
            Arc::clone(&fixture.applier.transactions),
            stop.clone(),
        ));
        eventually("it is applied", async || !fixture.notes().await.is_empty()).await;
        stop.cancel();
        retrying.await.unwrap();
        let others: i64 = sqlx::query_scalar("select sum(attempts - $1) from dead_letter")
            .bind(attempts)
            .fetch_one(&fixture.pool)
            .await
            .unwrap();
        assert!(
            others < 200,
            "{others} others were tried before it, {waiting_for}"
        );
    }
}

#[test]
fn passes_follow_each_other_at_once_while_they_make_progress() {
    let pass = |full, applied, stayed, fails: bool| {
        let failed = fails.then(|| (None, Failure::Transient("away".into())));
        Pass {
            full,
            applied,
            stayed,
            failed,
        }
        .wait()
    };
    let (at_once, poll, error) = (Duration::ZERO, POLL_INTERVAL, ERROR_WAIT);
    assert_eq!(pass(true, 0, 100, false), at_once);
    assert_eq!(pass(true, 0, 99, true), at_once);
    assert_eq!(pass(false, 1, 0, true), at_once);
    assert_eq!(pass(false, 0, 99, false), poll);
    assert_eq!(
        pass(true, 0, 0, false),
        poll,
        "others are just retrying them"
    );
    assert_eq!(pass(true, 0, 0, true), error, "none can be attempted");
    assert_eq!(pass(false, 0, 99, true), error);
}

#[tokio::test]
async fn a_deferred_dead_letter_is_retried_for_a_while_and_then_left_to_an_operator() {
    let soon = RetryPolicy {
        initial_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_secs(1),
        max_elapsed: Duration::from_secs(2),
    };
    let fixture = Fixture::with(BreakerPolicy::default(), soon).await;
    fixture.set(1, Some(Behaviour::Deferred));
    fixture.set(2, Some(Behaviour::Deferred));
    fixture
        .apply(None, &[note(1, Some("a")), note(2, Some("b"))])
        .await;
    fixture.set(1, None);
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [1]);
    let left = fixture.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!((left.kind, left.retry_at), (Kind::Deferred, None));
    assert!(left.attempts > 3, "{} attempts", left.attempts);
    assert_eq!(left.error, "not yet");
    fixture.set(2, None);
    assert_eq!(
        fixture.dead_letters.redrive(id(2)).await.unwrap(),
        Outcome::Applied
    );
}

#[tokio::test]
async fn a_dead_letter_that_is_too_slow_is_retried_for_a_while_and_then_left_to_an_operator() {
    let soon = RetryPolicy {
        initial_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_secs(1),
        max_elapsed: Duration::from_secs(2),
    };
    for behaviour in [Behaviour::Slow(0), Behaviour::Idle(0, 1)] {
        let fixture = Fixture::with(BreakerPolicy::default(), soon).await;
        fixture.set(1, Some(Behaviour::Deferred));
        fixture.apply(None, &notes("a", &[1, 2])).await;
        fixture.set(1, Some(behaviour));
        fixture.retry_all().await;
        let left = fixture.dead_letters.find(id(1)).await.unwrap().unwrap();
        assert_eq!((left.kind, left.retry_at), (Kind::Unknown, None));
        assert!(left.attempts > 3, "{} attempts", left.attempts);
        fixture.set(1, None);
        assert_eq!(
            fixture.dead_letters.redrive(id(1)).await.unwrap(),
            Outcome::Applied
        );
        fixture.retry_all().await;
        assert_eq!(fixture.notes().await, [1, 2]);
    }
}
