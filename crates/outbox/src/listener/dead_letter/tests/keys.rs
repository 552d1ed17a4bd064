//! Keys that have dead letters: what waits behind them, and how they are freed.

use super::*;

#[tokio::test]
async fn later_messages_of_a_dead_letters_key_are_parked_and_other_keys_flow() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    let mut batch = notes("a", &[1, 2]);
    batch.extend([note(3, Some("b")), note(4, None)]);
    let settled = fixture.apply(None, &batch).await;
    assert_eq!(
        (settled.applied, settled.dead_lettered, settled.parked),
        (2, 2, 1)
    );
    // Another batch, and another worker, which claims the partition.
    fixture.apply(epoch(&settled), &notes("a", &[5])).await;
    fixture
        .apply(
            None,
            &[note(6, Some("a")), note(7, Some("b")), note(8, None)],
        )
        .await;
    assert_eq!(fixture.notes().await, [3, 4, 7, 8]);
    let (poison, parked) = (Kind::Poison, Kind::Parked);
    assert_eq!(
        fixture.kinds().await,
        [(1, poison), (2, parked), (5, parked), (6, parked)]
    );
    // None is retried before an operator handles the first.
    assert_eq!(
        fixture
            .count("select count(retry_at) from dead_letter")
            .await,
        0
    );

    // A duplicate of a parked one changes nothing.
    let again = fixture.apply(None, &notes("a", &[2, 6])).await;
    assert_eq!(again.fresh, 0);
    assert_eq!(fixture.kinds().await.len(), 4);
}

#[tokio::test]
async fn dead_letters_without_a_key_park_nothing() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.apply(None, &[note(1, None), note(2, None)]).await;
    assert_eq!(fixture.notes().await, [2]);
    assert_eq!(fixture.count("select count(*) from blocked_key").await, 0);
    fixture.set(1, None);
    assert_eq!(
        fixture.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(fixture.notes().await, [2, 1]);
}

#[tokio::test]
async fn a_redriven_dead_letter_frees_its_key_and_parked_messages_follow_in_order() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::ViolatesConstraint));
    let settled = fixture.apply(None, &notes("a", &[1, 2, 3])).await;
    assert_eq!(
        fixture.dead_letters.redrive(id(2)).await.unwrap(),
        Outcome::Parked
    );
    let Outcome::Failed {
        kind,
        attempts,
        error,
    } = fixture.dead_letters.redrive(id(1)).await.unwrap()
    else {
        panic!("it cannot be applied yet");
    };
    assert_eq!((kind, attempts), (Kind::Poison, 2));
    assert!(error.contains("note_cents_check"), "{error}");
    let dead_letter = fixture.dead_letters.find(id(1)).await.unwrap().unwrap();
    assert_eq!((dead_letter.attempts, &dead_letter.error), (2, &error));
    assert_eq!(dead_letter.message, note(1, Some("a")), "whole");
    assert_eq!(dead_letter.event_type().as_deref(), Some("note.taken"));

    fixture.set(1, None);
    assert_eq!(
        fixture.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        fixture.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Gone
    );
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [1, 2, 3]);
    assert_eq!(fixture.count("select count(*) from blocked_key").await, 0);
    fixture.apply(epoch(&settled), &notes("a", &[4])).await;
    assert_eq!(fixture.notes().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_parked_message_that_fails_keeps_the_rest_parked() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Deferred));
    fixture.set(2, Some(Behaviour::Panics));
    fixture.apply(None, &notes("a", &[1, 2, 3])).await;
    fixture.set(1, None);
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [1]);
    assert_eq!(
        fixture.kinds().await,
        [(2, Kind::Poison), (3, Kind::Parked)]
    );
}

#[tokio::test]
async fn a_discarded_dead_letter_is_recorded_and_parked_messages_follow() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture.apply(None, &notes("a", &[1, 2])).await;
    assert!(
        fixture
            .dead_letters
            .discard(id(1), "it was a test")
            .await
            .unwrap()
    );
    assert!(!fixture.dead_letters.discard(id(1), "again").await.unwrap());
    fixture.retry_all().await;
    assert_eq!(fixture.notes().await, [2]);
    let (reason, by, value): (String, String, Vec<u8>) =
        sqlx::query_as("select reason, discarded_by::text, value from discarded_dead_letter")
            .fetch_one(&fixture.pool)
            .await
            .unwrap();
    assert_eq!(
        (reason.as_str(), by.as_str()),
        ("it was a test", "order_owner")
    );
    assert_eq!(Some(value), note(1, None).value);
    // Its inbox row stays: it does not come again.
    assert_eq!(fixture.apply(None, &notes("a", &[1])).await.fresh, 0);
}

#[tokio::test]
async fn a_filter_selects_what_matches_all_its_conditions() {
    let fixture = Fixture::new().await;
    fixture.set(1, Some(Behaviour::Poison));
    fixture
        .apply(
            None,
            &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
        )
        .await;
    let ids = async |filter: Filter| {
        let dead_letters = fixture.dead_letters.list(&filter, 10).await.unwrap();
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
    let second = fixture.dead_letters.find(id(2)).await.unwrap().unwrap();
    assert!(!second.first);
}

#[tokio::test]
async fn dead_letters_can_be_redriven_and_discarded_if_their_blocked_key_was_removed_by_hand() {
    let fixture = Fixture::new().await;
    for event in [1, 2, 3] {
        fixture.set(event, Some(Behaviour::Poison));
    }
    let batch = [note(1, Some("a")), note(2, Some("b")), note(3, Some("c"))];
    fixture.apply(None, &batch).await;
    fixture.set(1, None);
    sqlx::raw_sql(
        "delete from blocked_key; update dead_letter set retry_at = now() where key = 'c'",
    )
    .execute(&fixture.pool)
    .await
    .unwrap();
    assert_eq!(
        fixture.dead_letters.redrive(id(1)).await.unwrap(),
        Outcome::Applied
    );
    assert!(fixture.dead_letters.discard(id(2), "a test").await.unwrap());
    assert_eq!(fixture.count("select count(*) from blocked_key").await, 0);
    assert_eq!(fixture.pass().await.stayed, 1);
    let dead_letter = fixture.dead_letters.find(id(3)).await.unwrap().unwrap();
    assert_eq!(dead_letter.attempts, 2);
    // Its row is there again, and what comes later waits.
    assert_eq!(fixture.apply(None, &[note(4, Some("c"))]).await.parked, 1);
    fixture.set(3, None);
    assert_eq!(
        fixture.dead_letters.redrive(id(3)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        fixture.dead_letters.redrive(id(4)).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(fixture.notes().await, [1, 3, 4]);
    assert_eq!(fixture.count("select count(*) from blocked_key").await, 0);
}
