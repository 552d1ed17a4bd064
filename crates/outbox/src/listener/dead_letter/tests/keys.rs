//! Keys that have dead letters: what waits behind them, and how they are freed.

use super::*;

#[tokio::test]
async fn what_comes_later_of_a_dead_letters_key_waits_and_others_flow() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let mut batch = notes("a", &[1, 2]);
    batch.extend([note(3, Some("b")), note(4, None)]);
    let settled = desk.settle(None, &batch).await;
    assert_eq!(
        (settled.applied, settled.dead_lettered, settled.parked),
        (2, 2, 1)
    );
    // Another batch, and another worker, which claims the partition.
    desk.settle(epoch(&settled), &notes("a", &[5])).await;
    desk.settle(
        None,
        &[note(6, Some("a")), note(7, Some("b")), note(8, None)],
    )
    .await;
    assert_eq!(desk.notes().await, [3, 4, 7, 8]);
    let (poison, parked) = (Kind::Poison, Kind::Parked);
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(1, poison), (2, parked), (5, parked), (6, parked)]
    );
    // Nothing is due before somebody does something about the first.
    assert_eq!(
        desk.count("select count(retry_at) from dead_letter").await,
        0
    );

    // A duplicate of a parked one changes nothing.
    let again = desk.settle(None, &notes("a", &[2, 6])).await;
    assert_eq!(again.fresh, 0);
    assert_eq!(desk.move_to_dead_letter().await.len(), 4);
}

#[tokio::test]
async fn dead_letters_without_a_key_hold_nothing_back() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &[note(1, None), note(2, None)]).await;
    assert_eq!(desk.notes().await, [2]);
    assert_eq!(desk.count("select count(*) from blocked_key").await, 0);
    desk.told(1, None);
    assert_eq!(
        desk.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(desk.notes().await, [2, 1]);
}

#[tokio::test]
async fn a_dead_letter_that_is_redriven_lets_what_waits_follow_in_order_and_frees_its_key() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Violates));
    let settled = desk.settle(None, &notes("a", &[1, 2, 3])).await;
    assert_eq!(
        desk.dead_letters.redrive(id(2)).await.unwrap(),
        Outcome::Behind
    );
    let Outcome::Failed {
        kind,
        attempts,
        error,
    } = desk.dead_letters.redrive(id(1)).await.unwrap()
    else {
        panic!("it cannot be applied yet");
    };
    assert_eq!((kind, attempts), (Kind::Poison, 2));
    assert!(error.contains("note_cents_check"), "{error}");
    let dead_letter = desk.dead_letters.find(id(1)).await.unwrap().unwrap();
    assert_eq!((dead_letter.attempts, &dead_letter.error), (2, &error));
    assert_eq!(dead_letter.message, note(1, Some("a")), "whole");
    assert_eq!(dead_letter.event_type().as_deref(), Some("note.taken"));

    desk.told(1, None);
    assert_eq!(
        desk.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        desk.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Gone
    );
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [1, 2, 3]);
    assert_eq!(desk.count("select count(*) from blocked_key").await, 0);
    desk.settle(epoch(&settled), &notes("a", &[4])).await;
    assert_eq!(desk.notes().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn one_that_waited_and_fails_holds_back_the_rest() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Deferred));
    desk.told(2, Some(Verdict::Panics));
    desk.settle(None, &notes("a", &[1, 2, 3])).await;
    desk.told(1, None);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [1]);
    assert_eq!(
        desk.move_to_dead_letter().await,
        [(2, Kind::Poison), (3, Kind::Parked)]
    );
}

#[tokio::test]
async fn a_dead_letter_that_is_discarded_is_recorded_and_what_waits_follows() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1, 2])).await;
    assert!(
        desk.dead_letters
            .discard(id(1), "it was a test")
            .await
            .unwrap()
    );
    assert!(!desk.dead_letters.discard(id(1), "again").await.unwrap());
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [2]);
    let (reason, by, value): (String, String, Vec<u8>) =
        sqlx::query_as("select reason, discarded_by::text, value from discarded_dead_letter")
            .fetch_one(&desk.pool)
            .await
            .unwrap();
    assert_eq!(
        (reason.as_str(), by.as_str()),
        ("it was a test", "order_owner")
    );
    assert_eq!(Some(value), note(1, None).value);
    // Its inbox row stays: it does not come again.
    assert_eq!(desk.settle(None, &notes("a", &[1])).await.fresh, 0);
}

#[tokio::test]
async fn a_filter_lets_pass_what_it_says() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    )
    .await;
    let ids = async |filter: Filter| {
        let dead_letters = desk.dead_letters.list(&filter, 10).await.unwrap();
        dead_letters
            .iter()
            .map(|dead_letter| dead_letter.id.as_u128())
            .collect::<Vec<_>>()
    };
    let all = Filter::default;
    assert_eq!(ids(all()).await, [1, 2]);
    assert_eq!(
        ids(Filter {
            kind: Some(Kind::Parked),
            ..all()
        })
        .await,
        [2]
    );
    assert_eq!(
        ids(Filter {
            key: Some(b"a".to_vec()),
            topic: Some("note".into()),
            ..all()
        })
        .await,
        [1, 2]
    );
    assert_eq!(
        ids(Filter {
            key: Some(b"b".to_vec()),
            ..all()
        })
        .await,
        [0_u128; 0]
    );
    assert_eq!(
        ids(Filter {
            event_type: Some("note.taken".into()),
            ..all()
        })
        .await,
        [1, 2]
    );
    assert_eq!(
        ids(Filter {
            event_type: Some("note.lost".into()),
            ..all()
        })
        .await,
        [0_u128; 0]
    );
    assert_eq!(
        ids(Filter {
            older_than_s: Some(3600),
            ..all()
        })
        .await,
        [0_u128; 0]
    );
    assert_eq!(
        ids(Filter {
            older_than_s: Some(0),
            id: Some(id(2)),
            ..all()
        })
        .await,
        [2]
    );
    let second = desk.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert!(!second.first);
}

#[tokio::test]
async fn a_key_that_somebody_has_freed_by_hand_can_be_tried_and_discarded_all_the_same() {
    let desk = Desk::new().await;
    for event in [1, 2, 3] {
        desk.told(event, Some(Verdict::Poison));
    }
    let batch = [note(1, Some("a")), note(2, Some("b")), note(3, Some("c"))];
    desk.settle(None, &batch).await;
    desk.told(1, None);
    sqlx::raw_sql(
        "delete from blocked_key; update dead_letter set retry_at = now() where key = 'c'",
    )
    .execute(&desk.pool)
    .await
    .unwrap();
    assert_eq!(
        desk.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Applied
    );
    assert!(desk.dead_letters.discard(id(2), "a test").await.unwrap());
    assert_eq!(desk.count("select count(*) from blocked_key").await, 0);
    assert_eq!(desk.looks().await.stayed, 1);
    let dead_letter = desk.dead_letters.find(id(3)).await.unwrap().unwrap();
    assert_eq!(dead_letter.attempts, 2);
    // Its row is there again, and what comes later waits.
    assert_eq!(desk.settle(None, &[note(4, Some("c"))]).await.parked, 1);
    desk.told(3, None);
    assert_eq!(
        desk.dead_letters.redrive(id(3)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        desk.dead_letters.redrive(id(4)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(desk.notes().await, [1, 3, 4]);
    assert_eq!(desk.count("select count(*) from blocked_key").await, 0);
}
