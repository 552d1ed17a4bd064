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
