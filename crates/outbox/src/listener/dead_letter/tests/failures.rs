//! What becomes of what fails, and of the batch that it is in.

use super::*;

#[tokio::test]
async fn what_breaks_a_rule_is_found_and_put_aside_and_all_else_is_applied() {
    for verdict in [Verdict::Violates, Verdict::Panics, Verdict::Poison] {
        let desk = Desk::new().await;
        desk.told(13, Some(verdict));
        let batch: Vec<Message> = (1..=20).map(|event| note(event, None)).collect();
        let settled = desk.settle(None, &batch).await;
        assert_eq!(
            (settled.fresh, settled.applied, settled.dead_lettered),
            (20, 19, 1),
            "{verdict:?}"
        );
        assert_eq!(desk.move_to_dead_letter().await, [(13, Kind::Poison)]);
        let others: Vec<u128> = (1..=20).filter(|event| *event != 13).collect();
        assert_eq!(desk.notes().await, others, "in order");
        assert_eq!(desk.count("select count(*) from inbox").await, 20);
    }
}

#[tokio::test]
async fn what_fails_strangely_is_dead_lettered_only_where_others_can_be_applied() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Strange));
    let alone = desk.batcher.settle(&work(None, &notes("a", &[1, 2]))).await;
    let alone = alone.unwrap_err();
    assert!(matches!(alone.failure, Failure::Unknown(why) if why.to_string().contains("strange")));
    assert_eq!(alone.left, [0, 1]);
    assert_eq!(desk.count("select count(*) from dead_letter").await, 0);
    assert_eq!(desk.count("select count(*) from inbox").await, 0);

    let mut batch = notes("a", &[1, 2]);
    batch.push(note(3, Some("b")));
    let settled = desk.settle(None, &batch).await;
    assert_eq!(
        (settled.applied, settled.dead_lettered, settled.parked),
        (1, 2, 1)
    );
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(1, Kind::Unknown), (2, Kind::Parked)]
    );
    assert_eq!(desk.notes().await, [3]);
}

#[tokio::test]
async fn what_is_missing_is_waited_for_and_somebody_is_told_what_to_do() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Lacks));
    let batch = work(None, &notes("a", &[1, 2]));
    let unsettled = desk.batcher.settle(&batch).await.unwrap_err();
    let failure = unsettled.failure;
    assert!(matches!(failure, Failure::Transient(_)), "{failure:?}");
    assert!(failure.advice().unwrap().contains("migrate"));
    assert_eq!(unsettled.left, [0, 1]);
}

#[tokio::test]
async fn what_a_handler_gets_wrong_of_one_message_holds_up_no_other() {
    for (verdict, kind) in [
        (Verdict::Swallows, Kind::Unknown),
        (Verdict::Mistakes, Kind::Unknown),
        (Verdict::Unspeakable, Kind::Poison),
    ] {
        let desk = Desk::new().await;
        desk.told(3, Some(verdict));
        let batch: Vec<Message> = (1..=5).map(|event| note(event, None)).collect();
        let settled = desk.settle(None, &batch).await;
        assert_eq!(
            (settled.applied, settled.dead_lettered),
            (4, 1),
            "{verdict:?}"
        );
        assert_eq!(desk.move_to_dead_letter().await, [(3, kind)]);
        let mut notes = desk.notes().await;
        notes.sort_unstable();
        assert_eq!(notes, [1, 2, 4, 5], "{verdict:?}");
        // An operator learns as much.
        let outcome = desk.dead_letters.redrive(id(3)).await.unwrap();
        assert!(
            matches!(outcome, Outcome::Failed { kind: again, .. } if again == kind),
            "{verdict:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_event_that_panics_as_it_is_read_is_dead_lettered() {
    let desk = Desk::new().await;
    let mut trap = note(2, Some("a"));
    trap.value = Some(
        json!({ "event_id": id(2), "trap": true })
            .to_string()
            .into_bytes(),
    );
    let settled = desk
        .settle(None, &[note(1, None), trap, note(3, Some("a"))])
        .await;
    assert_eq!((settled.applied, settled.parked), (1, 1));
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(2, Kind::Poison), (3, Kind::Parked)]
    );
    let dead_letter = desk.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert!(
        dead_letter.error.contains("it is a trap"),
        "{}",
        dead_letter.error
    );
}

#[tokio::test]
async fn what_takes_too_long_together_is_applied_in_parts() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Slow(2)));
    desk.told(7, Some(Verdict::Slow(2)));
    let batch: Vec<Message> = (1..=8).map(|event| note(event, None)).collect();
    let settled = desk.settle(None, &batch).await;
    assert_eq!((settled.applied, settled.dead_lettered), (8, 0));
    assert_eq!(desk.notes().await, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_batch_that_leaves_its_connection_idle_for_too_long_is_applied_in_parts() {
    // The second is too large to be sent before the connection is seen to be closed.
    for bytes in [1, 10_000_000] {
        let desk = Desk::new().await;
        desk.told(1, Some(Verdict::Idle(2, bytes)));
        desk.told(8, Some(Verdict::Idle(2, bytes)));
        let batch: Vec<Message> = (1..=8).map(|event| note(event, None)).collect();
        let settled = desk.settle(None, &batch).await;
        assert_eq!(
            (settled.applied, settled.dead_lettered),
            (8, 0),
            "{bytes} bytes"
        );
        assert_eq!(desk.notes().await, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[tokio::test]
async fn a_burst_of_dead_letters_opens_the_breaker_and_a_message_that_is_applied_closes_it() {
    let breaker = BreakerPolicy {
        max_dead_letters: 3,
        window: Duration::from_secs(60),
        pause: Duration::from_secs(1),
    };
    let desk = Desk::with(breaker, RetryPolicy::default()).await;
    for event in 1..=10 {
        desk.told(event, Some(Verdict::Violates));
    }
    let batch: Vec<Message> = (1..=12).map(|event| note(event, None)).collect();
    let work = work(None, &batch);
    let stopped = desk.batcher.settle(&work).await.unwrap_err().failure;
    assert!(matches!(stopped, Failure::Transient(why) if why.to_string().contains("breaker")));
    assert_eq!(
        desk.move_to_dead_letter().await.len(),
        3,
        "the topic is not emptied into the table"
    );
    assert!(desk.batcher.open_until().is_some());
    assert_eq!(
        desk.batcher.progress.borrow().dead_lettered,
        3,
        "though the batch has failed"
    );
    // One at a time, until one is applied: here the cause is gone.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    desk.batcher.settle(&work).await.unwrap_err();
    assert_eq!(desk.move_to_dead_letter().await.len(), 4);
    for event in 1..=9 {
        desk.told(event, None);
    }
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let settled = desk.batcher.settle(&work).await.unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (7, 1));
    assert_eq!(desk.batcher.open_until(), None);
}

#[tokio::test]
async fn a_burst_of_what_fails_strangely_opens_the_breaker_too() {
    let breaker = BreakerPolicy {
        max_dead_letters: 20,
        // Less than if they were tried again one after the other.
        window: Duration::from_secs(12),
        pause: Duration::from_secs(60),
    };
    let desk = Desk::with(breaker, RetryPolicy::default()).await;
    for event in 1..=40 {
        desk.told(event, Some(Verdict::Strange));
    }
    let batch: Vec<Message> = (1..=41).map(|event| note(event, None)).collect();
    let stopped = desk.batcher.settle(&work(None, &batch)).await.unwrap_err();
    assert!(
        stopped.failure.to_string().contains("breaker"),
        "{stopped:?}"
    );
    assert_eq!(desk.notes().await, [41]);
    assert_eq!(desk.move_to_dead_letter().await.len(), 20);
    assert_eq!(stopped.left.len(), 20, "what is left is tried again");
}

#[tokio::test]
async fn a_flood_of_poison_of_one_key_does_not_open_the_breaker() {
    let breaker = BreakerPolicy {
        max_dead_letters: 3,
        ..BreakerPolicy::default()
    };
    let desk = Desk::with(breaker, RetryPolicy::default()).await;
    let mut batch = notes("a", &(1..=30).collect::<Vec<_>>());
    for message in &mut batch {
        message.value = Some(b"no event".to_vec());
    }
    batch.push(note(31, Some("b")));
    let settled = desk.settle(None, &batch).await;
    assert_eq!((settled.applied, settled.dead_lettered), (1, 30));
    let after = desk.settle(epoch(&settled), &batch[1..30]).await;
    assert_eq!(after.fresh, 0);
    assert_eq!(desk.batcher.open_until(), None);
}

#[tokio::test]
async fn what_is_only_deferred_does_not_open_the_breaker() {
    let breaker = BreakerPolicy {
        max_dead_letters: 1,
        ..BreakerPolicy::default()
    };
    let desk = Desk::with(breaker, RetryPolicy::default()).await;
    for event in 1..=5 {
        desk.told(event, Some(Verdict::Deferred));
    }
    let batch: Vec<Message> = (1..=6).map(|event| note(event, None)).collect();
    let settled = desk.settle(None, &batch).await;
    assert_eq!((settled.applied, settled.deferred), (1, 5));
    assert_eq!(desk.batcher.open_until(), None);
}

#[tokio::test]
async fn keys_and_values_may_be_anything() {
    let desk = Desk::new().await;
    let huge = "k".repeat(100_000);
    let mut broken = note(1, Some(&huge));
    broken.value = Some(vec![0xff; 1000]);
    broken.headers.push(("trace".to_owned(), None));
    let empty = Message {
        key: Some(Vec::new()),
        ..note(3, None)
    };
    desk.told(3, Some(Verdict::Poison));
    let settled = desk
        .settle(None, &[broken.clone(), note(2, Some(&huge)), empty.clone()])
        .await;
    assert_eq!((settled.dead_lettered, settled.parked), (3, 1));
    let dead_letters = desk
        .dead_letters
        .list(&Filter::default(), 10)
        .await
        .unwrap();
    assert_eq!(dead_letters[0].message, broken);
    assert_eq!(dead_letters[2].message, empty);
    let redriven = desk.dead_letters.redrive(dead_letters[0].id).await.unwrap();
    assert!(
        matches!(
            redriven,
            Outcome::Failed {
                kind: Kind::Poison,
                attempts: 2,
                ..
            }
        ),
        "{redriven:?}"
    );
}
