//! Which dead letters are due, and which are tried.

use super::*;
use crate::listener::dead_letter::due::{Pass, REST};
use crate::listener::retry::POLL_INTERVAL;

#[tokio::test]
async fn one_that_is_not_the_first_of_its_key_is_not_due_until_it_is() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1, 2])).await;
    // As where two partitions dead-lettered a first one of the key at once.
    let first_too =
        "update dead_letter set kind = 'deferred', retry_at = now() where kind = 'parked'";
    sqlx::query(first_too).execute(&desk.pool).await.unwrap();
    desk.tries_what_is_due().await;
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(1, Kind::Poison), (2, Kind::Parked)]
    );
    assert!(desk.dead_letters.discard(id(1), "a test").await.unwrap());
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [2]);
}

#[tokio::test]
async fn dead_letters_that_take_long_do_not_keep_one_that_comes_due() {
    let desk = Desk::new().await;
    let slow: Vec<Message> = (1..=30).map(|event| note(event, None)).collect();
    for event in 1..=30 {
        desk.told(event, Some(Verdict::Deferred));
    }
    let settled = desk.settle(None, &slow).await;
    for event in 1..=30 {
        desk.told(event, Some(Verdict::Slow(0)));
    }
    desk.are_due().await;
    let pass = desk.looks().await;
    assert!(pass.full, "there may be more that is due");
    assert!((2..30).contains(&pass.stayed), "{}", pass.stayed);

    desk.told(31, Some(Verdict::Deferred));
    desk.settle(epoch(&settled), &[note(31, None)]).await;
    desk.told(31, None);
    desk.are_due().await;
    // It was tried once; of the others, those that were not tried again too.
    let once = "update dead_letter set attempts = 2 where attempts = 1 and id <> $1";
    let once = sqlx::query(once).bind(id(31));
    once.execute(&desk.pool).await.unwrap();
    assert_eq!(desk.looks().await.applied, 1);
}

#[tokio::test]
async fn one_that_was_tried_since_it_was_looked_for_is_not_tried_until_it_is_due_again() {
    let seldom = RetryPolicy {
        initial_backoff: Duration::from_millis(60_000),
        max_backoff: Duration::from_secs(60),
        max_elapsed: Duration::from_secs(600),
    };
    let desk = Desk::with(BreakerPolicy::default(), seldom).await;
    for event in [1, 2] {
        desk.told(event, Some(Verdict::Deferred));
    }
    desk.settle(None, &[note(1, None), note(2, None)]).await;
    desk.told(1, None);
    desk.are_due().await;
    // It has seen both, and stops with the first of them.
    let gate = desk.stops();
    let batcher = Arc::clone(&desk.batcher);
    let stale = tokio::spawn(async move { batcher.redrive_due(&CancellationToken::new()).await });
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    assert_eq!(desk.looks().await.stayed, 1);
    gate.open.add_permits(1);
    let stale = stale.await.unwrap().unwrap();
    assert_eq!((stale.applied, stale.stayed), (1, 0));
    let dead_letter = desk.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!(dead_letter.attempts, 2);
}

#[tokio::test]
async fn of_those_due_the_ones_tried_least_and_the_ones_due_longest_take_turns() {
    let desk = Desk::new().await;
    for event in 1..=4 {
        desk.told(event, Some(Verdict::Deferred));
    }
    let four: Vec<Message> = (1..=4).map(|event| note(event, None)).collect();
    desk.settle(None, &four).await;
    for (event, attempts, due) in [(1, 9, 40), (2, 8, 30), (3, 1, 10), (4, 2, 20)] {
        desk.told(event, None);
        let statement = "update dead_letter set attempts = $2, retry_at = now() - make_interval(secs => $3) where id = $1";
        let set = sqlx::query(statement)
            .bind(id(event))
            .bind(attempts)
            .bind(f64::from(due));
        set.execute(&desk.pool).await.unwrap();
    }
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [3, 1, 4, 2]);
}

#[tokio::test]
async fn what_was_parked_for_long_and_is_to_wait_further_has_its_time() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.told(2, Some(Verdict::Deferred));
    desk.settle(None, &notes("a", &[1, 2])).await;
    let parked = desk.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!(parked.attempts, 0);
    sqlx::query("update dead_letter set dead_lettered_at = now() - interval '1 day'")
        .execute(&desk.pool)
        .await
        .unwrap();
    assert!(desk.dead_letters.discard(id(1), "a test").await.unwrap());
    desk.dead_letters.redrive(id(2)).await.unwrap();
    let deferred = desk.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!((deferred.kind, deferred.attempts), (Kind::Deferred, 1));
    assert!(deferred.retry_at.is_some());
    desk.told(2, None);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [2]);
}

#[test]
fn a_dead_letter_is_tried_for_as_long_as_its_waits_take() {
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
async fn a_dead_letter_that_cannot_be_tried_now_does_not_hold_up_others() {
    let desk = Desk::new().await;
    for event in [1, 2] {
        desk.told(event, Some(Verdict::Deferred));
    }
    let batch = [note(1, Some("a")), note(2, Some("b"))];
    assert_eq!(desk.settle(None, &batch).await.dead_lettered, 2);
    desk.told(1, Some(Verdict::Lacks));
    desk.told(2, None);
    let stop = CancellationToken::new();
    let trying = tokio::spawn(keep_trying(Arc::clone(&desk.batcher), stop.clone()));
    let applied = async |events: &[u128]| {
        eventually("it is applied", async || desk.notes().await == events).await;
    };
    applied(&[2]).await;
    assert_eq!(desk.move_to_dead_letter().await, [(1, Kind::Deferred)]);
    desk.told(1, None);
    applied(&[2, 1]).await;
    stop.cancel();
    trying.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_dead_letters_that_stay_does_not_keep_one_that_can_be_applied() {
    const HONEST: u128 = 3001;
    let all = (1..=HONEST).map(|event| note(event, Some(&event.to_string())));
    let all: Vec<Message> = all.collect();
    // One that is dead-lettered last, long after the flood has begun; one that waits already, while the flood comes.
    for (of_flood, of_honest) in [((5, 60), (1, 0)), ((1, 0), (5, 60))] {
        let desk = Desk::new().await;
        for event in 1..=HONEST {
            desk.told(event, Some(Verdict::Deferred));
        }
        desk.settle(None, &all).await;
        let (tries, due_for) = of_flood;
        for (is_honest, (tries, due_for)) in [(false, of_flood), (true, of_honest)] {
            sqlx::query(
                "update dead_letter set attempts = $3, retry_at = now() - make_interval(secs => $4)
                 where (id = $1) = $2",
            )
            .bind(id(HONEST))
            .bind(is_honest)
            .bind(tries)
            .bind(f64::from(due_for))
            .execute(&desk.pool)
            .await
            .unwrap();
        }
        desk.told(HONEST, None);
        let stop = CancellationToken::new();
        let trying = tokio::spawn(keep_trying(Arc::clone(&desk.batcher), stop.clone()));
        eventually("it is applied", async || !desk.notes().await.is_empty()).await;
        stop.cancel();
        trying.await.unwrap();
        let others: i64 = sqlx::query_scalar("select sum(attempts - $1) from dead_letter")
            .bind(tries)
            .fetch_one(&desk.pool)
            .await
            .unwrap();
        assert!(
            others < 200,
            "{others} others were tried before it, {due_for}"
        );
    }
}

#[test]
fn what_is_due_is_tried_without_a_rest_as_long_as_that_gets_anywhere() {
    let pass = |full, applied, stayed, fails: bool| {
        let failed = fails.then(|| (None, Failure::Transient("away".into())));
        Pass {
            full,
            applied,
            stayed,
            failed,
        }
        .rest()
    };
    let (at_once, look, rest) = (Duration::ZERO, POLL_INTERVAL, REST);
    assert_eq!(pass(true, 0, 100, false), at_once);
    assert_eq!(pass(true, 0, 99, true), at_once);
    assert_eq!(pass(false, 1, 0, true), at_once);
    assert_eq!(pass(false, 0, 99, false), look);
    assert_eq!(pass(true, 0, 0, false), look, "others are just trying them");
    assert_eq!(pass(true, 0, 0, true), rest, "none can be tried");
    assert_eq!(pass(false, 0, 99, true), rest);
}

#[tokio::test]
async fn a_deferred_dead_letter_is_tried_by_itself_for_a_while_and_then_left() {
    let soon = RetryPolicy {
        initial_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_secs(1),
        max_elapsed: Duration::from_secs(2),
    };
    let desk = Desk::with(BreakerPolicy::default(), soon).await;
    desk.told(1, Some(Verdict::Deferred));
    desk.told(2, Some(Verdict::Deferred));
    desk.settle(None, &[note(1, Some("a")), note(2, Some("b"))])
        .await;
    desk.told(1, None);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [1]);
    let left = desk.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!((left.kind, left.retry_at), (Kind::Deferred, None));
    assert!(left.attempts > 3, "{} attempts", left.attempts);
    assert_eq!(left.error, "not yet");
    desk.told(2, None);
    assert_eq!(
        desk.dead_letters.redrive(id(2)).await.unwrap(),
        Outcome::Applied
    );
}

#[tokio::test]
async fn a_dead_letter_whose_try_takes_too_long_is_tried_for_a_while_and_then_left() {
    let soon = RetryPolicy {
        initial_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_secs(1),
        max_elapsed: Duration::from_secs(2),
    };
    for verdict in [Verdict::Slow(0), Verdict::Idle(0, 1)] {
        let desk = Desk::with(BreakerPolicy::default(), soon).await;
        desk.told(1, Some(Verdict::Deferred));
        desk.settle(None, &notes("a", &[1, 2])).await;
        desk.told(1, Some(verdict));
        desk.tries_what_is_due().await;
        let left = desk.dead_letters.find(id(1)).await.unwrap().unwrap();
        assert_eq!((left.kind, left.retry_at), (Kind::Unknown, None));
        assert!(left.attempts > 3, "{} attempts", left.attempts);
        desk.told(1, None);
        assert_eq!(
            desk.dead_letters.redrive(id(1)).await.unwrap(),
            Outcome::Applied
        );
        desk.tries_what_is_due().await;
        assert_eq!(desk.notes().await, [1, 2]);
    }
}
