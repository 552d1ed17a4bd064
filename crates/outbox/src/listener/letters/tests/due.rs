//! Which letters are due, and which are tried.

use super::*;

#[tokio::test]
async fn one_that_is_not_the_first_of_its_key_is_not_due_until_it_is() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1, 2])).await;
    // As where two partitions put aside a first one of the key at once.
    let first_too =
        "update dead_letter set kind = 'deferred', retry_at = now() where kind = 'parked'";
    sqlx::query(first_too).execute(&desk.pool).await.unwrap();
    desk.tries_what_is_due().await;
    assert_eq!(
        desk.put_aside().await,
        [(1, Kind::Poison), (2, Kind::Parked)]
    );
    assert!(desk.letters.drop(id(1), "a test").await.unwrap());
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [2]);
}

#[tokio::test]
async fn letters_that_take_long_do_not_keep_one_that_comes_due() {
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
