//! Workers, operators and listeners that work on one key, dead letter or partition at the same time.

use super::*;
use crate::listener::batch::Epochs;
use crate::listener::stop::Blocker;

#[tokio::test]
async fn a_message_that_arrives_while_its_key_is_redriven_is_applied_after_it_and_delays_no_other_key()
 {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    let settled = fixture.apply(None, &notes("a", &[1])).await;
    fixture.set(1, None);
    let gate = fixture.hold();
    let redriven = fixture.spawn_redrive(1);
    gate.reached.acquire().await.unwrap().forget();
    fixture.hold_no_more();
    let arrive = [note(2, Some("a")), note(3, Some("b")), note(4, Some("a"))];
    let arrives = || fixture.spawn_apply(epoch(&settled), &arrive);
    let unsettled = arrives().await.unwrap().unwrap_err();
    assert!(matches!(unsettled.blocker, Blocker::KeyLocked));
    assert_eq!(unsettled.left, [0, 2], "only what is of that key");
    assert_eq!(fixture.notes().await, [3]);
    // What leaves no room for others waits for its turn, which comes before the next redrive's.
    let waits = fixture.spawn_apply_batch(Batch {
        is_full: true,
        ..batch_of(epoch(&settled), &arrive)
    });
    fixture.a_lock_is_awaited().await;
    gate.open.add_permits(1);
    assert_eq!(redriven.await.unwrap().unwrap(), Outcome::Applied);
    assert_eq!(waits.await.unwrap().unwrap().applied, 2);
    assert_eq!(
        fixture.notes().await,
        [1, 3, 2, 4],
        "1 was written down before it stopped"
    );
    assert_eq!(fixture.kinds().await, []);
}

#[tokio::test]
async fn a_message_that_is_parked_while_its_key_is_redriven_follows() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    let settled = fixture.apply(None, &notes("a", &[1])).await;
    fixture.set(1, None);
    // It parks 2 and stops in the handler with 3.
    let gate = fixture.hold();
    let parks = fixture.spawn_apply(epoch(&settled), &[note(2, Some("a")), note(3, Some("b"))]);
    gate.reached.acquire().await.unwrap().forget();
    fixture.hold_no_more();
    let redriven = fixture.spawn_redrive(1);
    fixture.a_lock_is_awaited().await;
    gate.open.add_permits(1);
    assert_eq!(parks.await.unwrap().unwrap().parked, 1);
    assert_eq!(redriven.await.unwrap().unwrap(), Outcome::Applied);
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [3, 1, 2]);
}

#[tokio::test]
async fn two_operators_who_redrive_at_once_apply_a_dead_letter_once() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.apply(None, &notes("a", &[1, 2])).await;
    fixture.set(1, None);
    let gate = fixture.hold();
    let first = fixture.spawn_redrive(1);
    gate.reached.acquire().await.unwrap().forget();
    let second = fixture.spawn_redrive(1);
    fixture.a_lock_is_awaited().await;
    // The running listener does not wait for it.
    assert_eq!(
        fixture
            .applier
            .transactions
            .redrive(id(1), LockMode::SkipLocked)
            .await
            .unwrap(),
        Outcome::Busy
    );
    fixture.hold_no_more();
    gate.open.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), Outcome::Applied);
    assert_eq!(second.await.unwrap().unwrap(), Outcome::Gone);
    assert_eq!(fixture.notes().await, [1]);
}

#[tokio::test]
async fn a_dead_letter_that_another_process_removes_after_a_failed_attempt_is_gone() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Panics));
    fixture.apply(None, &notes("a", &[1])).await;
    // A try that panics loses its connection: by the time that there is another one, the dead letter is taken.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let delete = "delete from dead_letter where exists (select from attempted)";
                sqlx::query(delete).execute(&mut *connection).await?;
                let insert = "insert into attempted default values";
                sqlx::query(insert).execute(connection).await?;
                Ok(())
            })
        });
    sqlx::raw_sql("create table attempted ()")
        .execute(&fixture.pool)
        .await
        .unwrap();
    let options = fixture.pool.connect_options().as_ref().clone();
    let dead_letters = fixture.operator(pool.connect_lazy_with(options));
    assert_eq!(dead_letters.redrive(id(1)).await.unwrap(), Outcome::Gone);
}

#[tokio::test]
async fn a_failed_attempt_is_recorded_although_another_task_waits_for_the_only_connection() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::ViolatesConstraint));
    fixture.apply(None, &notes("a", &[1])).await;
    let only = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(2))
        .connect_with(fixture.pool.connect_options().as_ref().clone())
        .await
        .unwrap();
    let mut other = fixture.pool.begin().await.unwrap();
    sqlx::query("select from dead_letter for update")
        .execute(&mut *other)
        .await
        .unwrap();
    let dead_letters = fixture.operator(only.clone());
    let attempt = tokio::spawn(async move { dead_letters.redrive(id(1)).await });
    fixture.a_lock_is_awaited().await;
    // It gets the connection as soon as the attempt returns it, and keeps it.
    let mut waits = Box::pin(only.acquire());
    assert!(futures::poll!(&mut waits).is_pending());
    other.rollback().await.unwrap();
    let outcome = attempt.await.unwrap().unwrap();
    assert!(
        matches!(outcome, Outcome::Failed { attempts: 2, .. }),
        "{outcome:?}"
    );
    waits.await.unwrap();
}

#[tokio::test]
async fn a_worker_that_takes_over_waits_for_one_that_stalls_while_it_parks() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    let gate = fixture.hold();
    let stalls = fixture.spawn_apply(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    gate.reached.acquire().await.unwrap().forget();
    fixture.hold_no_more();
    let takes_over = fixture.spawn_apply(None, &notes("a", &[1, 2, 4]));
    fixture.a_lock_is_awaited().await;
    gate.open.add_permits(1);
    assert_eq!(stalls.await.unwrap().unwrap().parked, 1);
    let settled = takes_over.await.unwrap().unwrap();
    assert_eq!((settled.fresh, settled.parked), (1, 1));
    let (poison, parked) = (Kind::Poison, Kind::Parked);
    assert_eq!(
        fixture.kinds().await,
        [(1, poison), (2, parked), (4, parked)]
    );
    assert_eq!(fixture.notes().await, [3]);
}

#[tokio::test]
async fn a_worker_that_dies_while_it_parks_leaves_everything_to_the_one_that_takes_over() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    let gate = fixture.hold();
    let dies = fixture.spawn_apply(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    gate.reached.acquire().await.unwrap().forget();
    fixture.hold_no_more();
    let takes_over = fixture.spawn_apply(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    fixture.a_lock_is_awaited().await;
    dies.abort();
    let settled = takes_over.await.unwrap().unwrap();
    assert_eq!((settled.fresh, settled.parked, settled.applied), (3, 1, 1));
    assert_eq!(
        fixture.kinds().await,
        [(1, Kind::Poison), (2, Kind::Parked)]
    );
    assert_eq!(fixture.notes().await, [3]);
}

#[tokio::test]
async fn a_partition_that_is_claimed_during_a_bisection_is_finished_by_the_new_owner() {
    let fixture = Fixture::new().await;
    fixture.set(3, Some(Behaviour::ViolatesConstraint));
    let batch: Vec<Message> = (1..=4).map(|event| note(event, Some("a"))).collect();
    let gate = fixture.hold();
    // With one connection, which is taken from it between two parts.
    let only = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(fixture.pool.connect_options().as_ref().clone())
        .await
        .unwrap();
    let loses = tokio::spawn({
        let handler = Scripted(Arc::clone(&fixture.script));
        let (breaker, retry) = (BreakerPolicy::default(), RetryPolicy::default());
        let applier = applier(LISTENER, only.clone(), handler, breaker, retry);
        let batch = batch_of(None, &batch);
        async move { applier.apply(&batch).await }
    });
    // The whole batch has failed; its first half is stopped within its transaction.
    gate.reached.acquire().await.unwrap().forget();
    fixture.hold_no_more();
    let mut between = Box::pin(only.acquire());
    assert!(futures::poll!(&mut between).is_pending());
    gate.open.add_permits(1);
    let between = between.await.unwrap();
    let other = fixture
        .applier
        .apply(&batch_of(None, &batch))
        .await
        .unwrap();
    drop(between);
    let lost = loses.await.unwrap().unwrap();
    assert_eq!(lost.superseded.len(), 1);
    assert_eq!(
        (lost.fresh, lost.held.len()),
        (2, 0),
        "nothing is committed to Kafka"
    );
    assert_eq!((other.fresh, other.dead_lettered, other.parked), (2, 2, 1));
    assert_eq!(fixture.notes().await, [1, 2]);
    assert_eq!(
        fixture.kinds().await,
        [(3, Kind::Poison), (4, Kind::Parked)]
    );
}

#[tokio::test]
async fn two_listeners_do_not_park_each_others_keys() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.apply(None, &notes("a", &[1])).await;
    let handler = Scripted(Arc::clone(&fixture.script));
    let (breaker, retry) = (BreakerPolicy::default(), RetryPolicy::default());
    let other = applier("other", fixture.pool.clone(), handler, breaker, retry);
    let settled = other
        .apply(&batch_of(None, &notes("a", &[2])))
        .await
        .unwrap();
    assert_eq!(settled.applied, 1);
    let elsewhere = Message {
        at: Position {
            topic: "elsewhere".to_owned(),
            ..note(3, None).at
        },
        ..note(3, Some("a"))
    };
    let settled = fixture
        .applier
        .apply(&Batch {
            messages: vec![elsewhere],
            epochs: Epochs::new(),
            taken_at: Moment::now(),
            max_transaction: 500,
            is_full: false,
        })
        .await
        .unwrap();
    assert_eq!(settled.applied, 1, "a key is one of its topic");
}

#[tokio::test]
async fn a_redrive_whose_future_is_dropped_completes() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.apply(None, &notes("a", &[1])).await;
    fixture.set(1, None);
    let gate = fixture.hold();
    let redriven = fixture.spawn_redrive(1);
    gate.reached.acquire().await.unwrap().forget();
    redriven.abort();
    assert!(redriven.await.unwrap_err().is_cancelled());
    gate.open.add_permits(1);
    let applied = async || fixture.kinds().await.is_empty();
    eventually("it is applied", applied).await;
    assert_eq!(fixture.notes().await, [1]);
}
