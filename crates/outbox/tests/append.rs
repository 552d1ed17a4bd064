//! Appending, on real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use outbox::schema::{self, Part, Roles};
use outbox::{Event, Outgoing, append};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPool;
use stack::testing::{Context, database};
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Note {
    #[serde(rename = "note.made")]
    Made { number: usize, text: String },
}

impl Event for Note {
    const AGGREGATE_TYPE: &'static str = "note";
    fn id(&self) -> Uuid {
        Uuid::now_v7()
    }
    fn aggregate_id(&self) -> String {
        "n1".to_owned()
    }
}

async fn pool() -> PgPool {
    let database = database(Context::Order).await;
    let pool = PgPool::connect_with(database.options("order_owner"))
        .await
        .unwrap();
    let mut owner = pool.acquire().await.unwrap();
    schema::migrate(&mut owner, &[Part::Publisher], &Roles::default())
        .await
        .unwrap();
    drop(owner);
    pool
}

fn note(number: usize, text: &str) -> Outgoing {
    let text = text.to_owned();
    Outgoing::new(&Note::Made { number, text }).unwrap()
}

async fn numbers(pool: &PgPool) -> Vec<i32> {
    sqlx::query_scalar("select (payload->>'number')::integer from outbox order by seq")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn events_are_appended_in_order_if_the_transaction_commits() {
    let pool = pool().await;
    let events: Vec<Outgoing> = (0..500).map(|number| note(number, "")).collect();
    let mut tx = pool.begin().await.unwrap();
    append(&mut tx, &events).await.unwrap();
    append(&mut tx, &[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(numbers(&pool).await, (0..500).collect::<Vec<i32>>());

    let mut tx = pool.begin().await.unwrap();
    append(&mut tx, &[note(500, "")]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(numbers(&pool).await.len(), 500);
}

#[tokio::test]
async fn a_payload_too_large_for_a_message_is_refused() {
    let pool = pool().await;
    let mut tx = pool.begin().await.unwrap();
    let refused = append(&mut tx, &[note(0, &"x".repeat(900_000))])
        .await
        .unwrap_err();
    let refused = refused.into_database_error().unwrap();
    assert_eq!(refused.constraint(), Some("outbox_payload_size"));
}

/// In the envelope, each quote takes two bytes, and each character beyond U+FFFF twelve.
#[tokio::test]
async fn a_payload_too_large_for_the_envelope_is_refused() {
    let pool = pool().await;
    for (text, count, fits) in [
        ("\"", 249_900, true),
        ("\"", 260_000, false),
        ("\u{1f980}", 83_300, true),
        ("\u{1f980}", 84_000, false),
        ("ä", 449_900, true),
    ] {
        let mut tx = pool.begin().await.unwrap();
        let appended = append(&mut tx, &[note(0, &text.repeat(count))]).await;
        let constraint = appended.err().map(|error| {
            let error = error.into_database_error().unwrap();
            error.constraint().map(str::to_owned)
        });
        let refused = Some(Some("outbox_payload_size".to_owned()));
        assert_eq!(
            constraint,
            if fits { None } else { refused },
            "{count} {text}"
        );
    }
}
