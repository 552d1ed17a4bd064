//! Those who meet at one key, dead letter or partition: workers, operators, listeners.

use super::*;

#[tokio::test]
async fn a_message_that_arrives_while_its_key_is_redriven_comes_after_it_and_holds_up_no_other() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let settled = desk.settle(None, &notes("a", &[1])).await;
    desk.told(1, None);
    let gate = desk.stops();
    let redriven = desk.redriving(1);
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let arrive = [note(2, Some("a")), note(3, Some("b")), note(4, Some("a"))];
    let arrives = || desk.settling(epoch(&settled), &arrive);
    let unsettled = arrives().await.unwrap().unwrap_err();
    assert!(matches!(unsettled.failure, Failure::Transient(_)));
    assert_eq!(unsettled.left, [0, 2], "only what is of that key");
    assert_eq!(desk.notes().await, [3]);
    // What leaves no room for others waits for its turn, which comes before the next redrive's.
    let waits = desk.settling_work(Work {
        full: true,
        ..work(epoch(&settled), &arrive)
    });
    desk.somebody_waits().await;
    gate.open.add_permits(1);
    assert_eq!(redriven.await.unwrap().unwrap(), Outcome::Applied);
    assert_eq!(waits.await.unwrap().unwrap().applied, 2);
    assert_eq!(
        desk.notes().await,
        [1, 3, 2, 4],
        "1 was written down before it stopped"
    );
    assert_eq!(desk.move_to_dead_letter().await, []);
}

#[tokio::test]
async fn a_dead_letter_that_is_redriven_while_its_key_is_parked_to_lets_that_one_follow() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let settled = desk.settle(None, &notes("a", &[1])).await;
    desk.told(1, None);
    // It parks 2 and stops in the handler with 3.
    let gate = desk.stops();
    let parks = desk.settling(epoch(&settled), &[note(2, Some("a")), note(3, Some("b"))]);
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let redriven = desk.redriving(1);
    desk.somebody_waits().await;
    gate.open.add_permits(1);
    assert_eq!(parks.await.unwrap().unwrap().parked, 1);
    assert_eq!(redriven.await.unwrap().unwrap(), Outcome::Applied);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [3, 1, 2]);
}

#[tokio::test]
async fn two_who_redrive_at_once_apply_it_once() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1, 2])).await;
    desk.told(1, None);
    let gate = desk.stops();
    let first = desk.redriving(1);
    gate.reached.acquire().await.unwrap().forget();
    let second = desk.redriving(1);
    desk.somebody_waits().await;
    // The running listener does not wait for it.
    assert_eq!(
        desk.batcher
            .redrive(id(1), redrive::Patience::SkipLocked)
            .await
            .unwrap(),
        Outcome::Busy
    );
    desk.stops_no_more();
    gate.open.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), Outcome::Applied);
    assert_eq!(second.await.unwrap().unwrap(), Outcome::Gone);
    assert_eq!(desk.notes().await, [1]);
}

#[tokio::test]
async fn a_dead_letter_that_somebody_takes_after_a_try_that_failed_is_told_to_be_gone() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Panics));
    desk.settle(None, &notes("a", &[1])).await;
    // A try that panics loses its connection: by the time that there is another one, the dead letter is taken.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let tried = "delete from dead_letter where exists (select from tried)";
                sqlx::query(tried).execute(&mut *connection).await?;
                let tries = "insert into tried default values";
                sqlx::query(tries).execute(connection).await?;
                Ok(())
            })
        });
    sqlx::raw_sql("create table tried ()")
        .execute(&desk.pool)
        .await
        .unwrap();
    let options = desk.pool.connect_options().as_ref().clone();
    let dead_letters = desk.operator(pool.connect_lazy_with(options));
    assert_eq!(dead_letters.redrive(id(1)).await.unwrap(), Outcome::Gone);
}

#[tokio::test]
async fn a_worker_that_stalls_while_it_parks_is_waited_for_by_the_one_that_takes_over() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let gate = desk.stops();
    let stalls = desk.settling(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let takes_over = desk.settling(None, &notes("a", &[1, 2, 4]));
    desk.somebody_waits().await;
    gate.open.add_permits(1);
    assert_eq!(stalls.await.unwrap().unwrap().parked, 1);
    let settled = takes_over.await.unwrap().unwrap();
    assert_eq!((settled.fresh, settled.parked), (1, 1));
    let (poison, parked) = (Kind::Poison, Kind::Parked);
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(1, poison), (2, parked), (4, parked)]
    );
    assert_eq!(desk.notes().await, [3]);
}

#[tokio::test]
async fn a_worker_that_dies_while_it_parks_leaves_all_to_the_one_that_takes_over() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let gate = desk.stops();
    let dies = desk.settling(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let takes_over = desk.settling(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    desk.somebody_waits().await;
    dies.abort();
    let settled = takes_over.await.unwrap().unwrap();
    assert_eq!((settled.fresh, settled.parked, settled.applied), (3, 1, 1));
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(1, Kind::Poison), (2, Kind::Parked)]
    );
    assert_eq!(desk.notes().await, [3]);
}

#[tokio::test]
async fn a_partition_that_is_lost_in_mid_split_is_finished_by_the_other() {
    let desk = Desk::new().await;
    desk.told(3, Some(Verdict::Violates));
    let batch: Vec<Message> = (1..=4).map(|event| note(event, Some("a"))).collect();
    let gate = desk.stops();
    // With one connection, which is taken from it between two parts.
    let only = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(desk.pool.connect_options().as_ref().clone())
        .await
        .unwrap();
    let loses = tokio::spawn({
        let handler = Shared(Arc::clone(&desk.clerk));
        let (breaker, retry) = (BreakerPolicy::default(), RetryPolicy::default());
        let batcher = Batcher::new(LISTENER.to_owned(), only.clone(), handler, breaker, retry);
        let work = work(None, &batch);
        async move { batcher.settle(&work).await }
    });
    // The whole batch has failed; its first half is stopped within its transaction.
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let mut between = Box::pin(only.acquire());
    assert!(futures::poll!(&mut between).is_pending());
    gate.open.add_permits(1);
    let between = between.await.unwrap();
    let other = desk.batcher.settle(&work(None, &batch)).await.unwrap();
    drop(between);
    let lost = loses.await.unwrap().unwrap();
    assert_eq!(lost.superseded.len(), 1);
    assert_eq!(
        (lost.fresh, lost.held.len()),
        (2, 0),
        "nothing is committed to Kafka"
    );
    assert_eq!((other.fresh, other.dead_lettered, other.parked), (2, 2, 1));
    assert_eq!(desk.notes().await, [1, 2]);
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(3, Kind::Poison), (4, Kind::Parked)]
    );
}

#[tokio::test]
async fn two_listeners_do_not_hold_each_others_keys_back() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1])).await;
    let handler = Shared(Arc::clone(&desk.clerk));
    let other = Batcher::new(
        "other".to_owned(),
        desk.pool.clone(),
        handler,
        BreakerPolicy::default(),
        RetryPolicy::default(),
    );
    let settled = other.settle(&work(None, &notes("a", &[2]))).await.unwrap();
    assert_eq!(settled.applied, 1);
    let elsewhere = Message {
        at: Position {
            topic: "elsewhere".to_owned(),
            ..note(3, None).at
        },
        ..note(3, Some("a"))
    };
    let settled = desk
        .batcher
        .settle(&Work {
            messages: vec![elsewhere],
            epochs: BTreeMap::new(),
            taken: Moment::now(),
            most: 500,
            full: false,
        })
        .await
        .unwrap();
    assert_eq!(settled.applied, 1, "a key is one of its topic");
}

#[tokio::test]
async fn a_redrive_that_nobody_awaits_any_more_comes_to_its_end() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1])).await;
    desk.told(1, None);
    let gate = desk.stops();
    let redriven = desk.redriving(1);
    gate.reached.acquire().await.unwrap().forget();
    redriven.abort();
    assert!(redriven.await.unwrap_err().is_cancelled());
    gate.open.add_permits(1);
    let applied = async || desk.move_to_dead_letter().await.is_empty();
    eventually("it is applied", applied).await;
    assert_eq!(desk.notes().await, [1]);
}
