//! What becomes of a failing event, and of its batch.

use super::*;
use crate::listener::stop::Blocker;

#[tokio::test]
async fn an_event_that_violates_a_constraint_is_isolated_and_all_others_are_applied() {
    for behaviour in [
        Behaviour::ViolatesConstraint,
        Behaviour::Panics,
        Behaviour::Poison,
    ] {
        let fixture = Fixture::new().await;
        fixture.set(13, Some(behaviour));
        let batch: Vec<Message> = (1..=20).map(|event| note(event, None)).collect();
        let settled = fixture.apply(None, &batch).await;
        assert_eq!(
            (settled.fresh, settled.applied, settled.dead_lettered),
            (20, 19, 1),
            "{behaviour:?}"
        );
        assert_eq!(fixture.kinds().await, [(13, Kind::Poison)]);
        let others: Vec<u128> = (1..=20).filter(|event| *event != 13).collect();
        assert_eq!(fixture.notes().await, others, "in order");
        assert_eq!(fixture.count("select count(*) from inbox").await, 20);
    }
}

#[tokio::test]
async fn an_unknown_failure_is_dead_lettered_only_if_others_are_applied() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::UnknownError));
    let alone = fixture
        .applier
        .apply(&batch_of(None, &notes("a", &[1, 2])))
        .await;
    let alone = alone.unwrap_err();
    assert!(
        matches!(alone.failure(), Failure::Unknown(error) if error.to_string().contains("no known reason"))
    );
    assert_eq!(alone.left, [0, 1]);
    assert_eq!(fixture.count("select count(*) from dead_letter").await, 0);
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);

    let mut batch = notes("a", &[1, 2]);
    batch.push(note(3, Some("b")));
    let settled = fixture.apply(None, &batch).await;
    assert_eq!(
        (settled.applied, settled.dead_lettered, settled.parked),
        (1, 2, 1)
    );
    assert_eq!(
        fixture.kinds().await,
        [(1, Kind::Unknown), (2, Kind::Parked)]
    );
    assert_eq!(fixture.notes().await, [3]);
}

#[tokio::test]
async fn a_missing_table_is_waited_for_with_advice_for_the_operator() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::MissingTable));
    let batch = batch_of(None, &notes("a", &[1, 2]));
    let unsettled = fixture.applier.apply(&batch).await.unwrap_err();
    assert_eq!(unsettled.left, [0, 1]);
    let Blocker::Failed(failure) = unsettled.blocker else {
        panic!("{unsettled:?}");
    };
    assert!(matches!(failure, Failure::Transient(_)), "{failure:?}");
    assert!(failure.advice().unwrap().contains("migrate"));
}

#[tokio::test]
async fn a_mistake_of_the_handler_with_one_event_delays_no_other() {
    for (behaviour, kind) in [
        (Behaviour::SwallowsError, Kind::Unknown),
        (Behaviour::RefusesAnother, Kind::Unknown),
        (Behaviour::DisplayPanics, Kind::Poison),
    ] {
        let fixture = Fixture::new().await;
        fixture.set(3, Some(behaviour));
        let batch: Vec<Message> = (1..=5).map(|event| note(event, None)).collect();
        let settled = fixture.apply(None, &batch).await;
        assert_eq!(
            (settled.applied, settled.dead_lettered),
            (4, 1),
            "{behaviour:?}"
        );
        assert_eq!(fixture.kinds().await, [(3, kind)]);
        let mut notes = fixture.notes().await;
        notes.sort_unstable();
        assert_eq!(notes, [1, 2, 4, 5], "{behaviour:?}");
        // An operator learns as much.
        let outcome = fixture.dead_letters.redrive(id(3)).await.unwrap();
        assert!(
            matches!(outcome, Outcome::Failed { kind: again, .. } if again == kind),
            "{behaviour:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_event_whose_deserialize_panics_is_dead_lettered() {
    let fixture = Fixture::new().await;
    let mut trap = note(2, Some("a"));
    trap.value = Some(
        json!({ "event_id": id(2), "trap": true })
            .to_string()
            .into_bytes(),
    );
    let settled = fixture
        .apply(None, &[note(1, None), trap, note(3, Some("a"))])
        .await;
    assert_eq!((settled.applied, settled.parked), (1, 1));
    assert_eq!(
        fixture.kinds().await,
        [(2, Kind::Poison), (3, Kind::Parked)]
    );
    let dead_letter = fixture.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert!(
        dead_letter.error.contains("it is a trap"),
        "{}",
        dead_letter.error
    );
}

#[tokio::test]
async fn a_batch_that_exceeds_the_statement_timeout_is_applied_in_parts() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Slow(2)));
    fixture.set(7, Some(Behaviour::Slow(2)));
    let batch: Vec<Message> = (1..=8).map(|event| note(event, None)).collect();
    let settled = fixture.apply(None, &batch).await;
    assert_eq!((settled.applied, settled.dead_lettered), (8, 0));
    assert_eq!(fixture.notes().await, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_batch_that_exceeds_the_idle_timeout_is_applied_in_parts() {
    // The second is too large to be sent before the connection is seen to be closed.
    for bytes in [1, 10_000_000] {
        let fixture = Fixture::new().await;
        fixture.set(1, Some(Behaviour::Idle(2, bytes)));
        fixture.set(8, Some(Behaviour::Idle(2, bytes)));
        let batch: Vec<Message> = (1..=8).map(|event| note(event, None)).collect();
        let settled = fixture.apply(None, &batch).await;
        assert_eq!(
            (settled.applied, settled.dead_lettered),
            (8, 0),
            "{bytes} bytes"
        );
        assert_eq!(fixture.notes().await, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[tokio::test]
async fn a_burst_of_dead_letters_opens_the_breaker_and_an_applied_message_closes_it() {
    let breaker = BreakerPolicy {
        max_dead_letters: 3,
        window: Duration::from_secs(60),
        pause: Duration::from_secs(1),
    };
    let fixture = Fixture::with(breaker, RetryPolicy::default()).await;
    for event in 1..=10 {
        fixture.set(event, Some(Behaviour::ViolatesConstraint));
    }
    let batch: Vec<Message> = (1..=12).map(|event| note(event, None)).collect();
    let batch = batch_of(None, &batch);
    let stopped = fixture.applier.apply(&batch).await.unwrap_err();
    assert!(
        matches!(stopped.blocker, Blocker::BreakerOpen),
        "{stopped:?}"
    );
    assert_eq!(
        fixture.kinds().await.len(),
        3,
        "the topic is not emptied into the table"
    );
    assert!(fixture.applier.open_until().is_some());
    assert_eq!(
        fixture.applier.progress.borrow().dead_lettered,
        3,
        "though the batch has failed"
    );
    // One at a time, until one is applied: here the cause is gone.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    fixture.applier.apply(&batch).await.unwrap_err();
    assert_eq!(fixture.kinds().await.len(), 4);
    for event in 1..=9 {
        fixture.set(event, None);
    }
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let settled = fixture.applier.apply(&batch).await.unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (7, 1));
    assert_eq!(fixture.applier.open_until(), None);
}

#[tokio::test]
async fn a_burst_of_unknown_failures_opens_the_breaker_too() {
    let breaker = BreakerPolicy {
        max_dead_letters: 20,
        // Less than if they were tried again one after the other.
        window: Duration::from_secs(12),
        pause: Duration::from_secs(60),
    };
    let fixture = Fixture::with(breaker, RetryPolicy::default()).await;
    for event in 1..=40 {
        fixture.set(event, Some(Behaviour::UnknownError));
    }
    let batch: Vec<Message> = (1..=41).map(|event| note(event, None)).collect();
    let stopped = fixture
        .applier
        .apply(&batch_of(None, &batch))
        .await
        .unwrap_err();
    assert!(
        matches!(stopped.blocker, Blocker::BreakerOpen),
        "{stopped:?}"
    );
    assert_eq!(fixture.notes().await, [41]);
    assert_eq!(fixture.kinds().await.len(), 20);
    assert_eq!(stopped.left.len(), 20, "what is left is tried again");
}

#[tokio::test]
async fn a_flood_of_poison_of_one_key_does_not_open_the_breaker() {
    let breaker = BreakerPolicy {
        max_dead_letters: 3,
        ..BreakerPolicy::default()
    };
    let fixture = Fixture::with(breaker, RetryPolicy::default()).await;
    let mut batch = notes("a", &(1..=30).collect::<Vec<_>>());
    for message in &mut batch {
        message.value = Some(b"no event".to_vec());
    }
    batch.push(note(31, Some("b")));
    let settled = fixture.apply(None, &batch).await;
    assert_eq!((settled.applied, settled.dead_lettered), (1, 30));
    let after = fixture.apply(epoch(&settled), &batch[1..30]).await;
    assert_eq!(after.fresh, 0);
    assert_eq!(fixture.applier.open_until(), None);
}

#[tokio::test]
async fn deferred_events_do_not_open_the_breaker() {
    let breaker = BreakerPolicy {
        max_dead_letters: 1,
        ..BreakerPolicy::default()
    };
    let fixture = Fixture::with(breaker, RetryPolicy::default()).await;
    for event in 1..=5 {
        fixture.set(event, Some(Behaviour::Deferred));
    }
    let batch: Vec<Message> = (1..=6).map(|event| note(event, None)).collect();
    let settled = fixture.apply(None, &batch).await;
    assert_eq!((settled.applied, settled.deferred), (1, 5));
    assert_eq!(fixture.applier.open_until(), None);
}

#[tokio::test]
async fn keys_and_values_may_be_any_bytes() {
    let fixture = Fixture::new().await;
    let huge = "k".repeat(100_000);
    let mut broken = note(1, Some(&huge));
    broken.value = Some(vec![0xff; 1000]);
    broken.headers.push(("trace".to_owned(), None));
    let empty = Message {
        key: Some(Vec::new()),
        ..note(3, None)
    };
    fixture.set(3, Some(Behaviour::Poison));
    let settled = fixture
        .apply(None, &[broken.clone(), note(2, Some(&huge)), empty.clone()])
        .await;
    assert_eq!((settled.dead_lettered, settled.parked), (3, 1));
    let dead_letters = fixture
        .dead_letters
        .list(&Filter::default(), 10)
        .await
        .unwrap();
    assert_eq!(dead_letters[0].message, broken);
    assert_eq!(dead_letters[2].message, empty);
    let redriven = fixture
        .dead_letters
        .redrive(dead_letters[0].id)
        .await
        .unwrap();
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
