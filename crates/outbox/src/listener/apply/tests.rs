//! Batches in one transaction, on real PostgreSQL.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;

use uuid::Uuid;

use super::*;
use crate::event::{Event, Outgoing};
use crate::listener::clock::Moment;
use crate::listener::failure::{Failure, Refusal};
use crate::listener::handler::Received;
use crate::listener::partition::Partition;
use crate::listener::retry::RetryPolicy;
use crate::listener::testing::{self, migrated};
use crate::message::{Message, Position};

const LISTENER: &str = "ledger";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Payment {
    #[serde(rename = "payment.received")]
    Received { event_id: Uuid, cents: i64 },
}

impl Event for Payment {
    const AGGREGATE_TYPE: &'static str = "payment";
    fn id(&self) -> Uuid {
        let Self::Received { event_id, .. } = self;
        *event_id
    }
    fn aggregate_id(&self) -> String {
        "ledger".to_owned()
    }
}

/// Adds up cents in a table, answers each payment with an event, and fails on request.
#[derive(Default)]
struct Ledger {
    fails: Mutex<Vec<Failure>>,
    panics: bool,
    swallows: bool,
}

impl Handler for Ledger {
    type Event = Payment;
    const IGNORED_EVENT_TYPES: &'static [&'static str] = &["payment.noted"];

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Payment>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let mut outgoing = Vec::new();
        for received in batch {
            let Payment::Received { cents, .. } = received.event;
            sqlx::query("update ledger set cents = cents + $1")
                .bind(cents)
                .execute(&mut **tx)
                .await?;
            let event_id = Uuid::now_v7();
            outgoing.push(Outgoing::new(&Payment::Received { event_id, cents })?);
        }
        assert!(!self.panics, "the ledger is on fire");
        if self.swallows {
            drop(sqlx::query("select from nowhere").execute(&mut **tx).await);
            return Ok(Vec::new());
        }
        match self.fails.lock().unwrap().pop() {
            Some(failure) => Err(failure),
            None => Ok(outgoing),
        }
    }
}

struct Fixture {
    pool: PgPool,
    applier: Applier<Ledger>,
}

impl Fixture {
    async fn new(ledger: Ledger) -> Self {
        let table = "create table ledger (cents bigint not null); insert into ledger values (0)";
        let pool = migrated(4, table).await;
        let applier = applier(LISTENER, &pool, ledger);
        Self { pool, applier }
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn cents(&self) -> i64 {
        self.count("select cents from ledger").await
    }
}

fn applier(listener: &str, pool: &PgPool, handler: Ledger) -> Applier<Ledger> {
    let (breaker, retry) = (BreakerPolicy::default(), RetryPolicy::default());
    testing::applier(listener, pool.clone(), handler, breaker, retry)
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn payment(offset: i64, event: u128, cents: i64) -> Message {
    let payload = json!({ "event_id": id(event), "cents": cents });
    message(offset, "payment.received", &payload.to_string())
}

fn message(offset: i64, event_type: &str, value: &str) -> Message {
    Message {
        at: Position {
            topic: "payment".to_owned(),
            partition: 0,
            offset,
        },
        timestamp: Some(i64::MAX),
        key: None,
        headers: vec![("event_type".to_owned(), Some(event_type.into()))],
        value: Some(value.into()),
    }
}

fn batch_of(epoch: Option<i64>, messages: &[Message]) -> Batch {
    let partition = Partition {
        topic: "payment".to_owned(),
        number: 0,
    };
    Batch {
        messages: messages.to_vec(),
        epochs: [(partition, epoch)].into(),
        taken_at: Moment::now(),
        max_transaction: 500,
        is_full: false,
    }
}

#[tokio::test]
async fn a_redelivered_event_is_applied_once() {
    let fixture = Fixture::new(Ledger::default()).await;
    let first = batch_of(
        None,
        &[payment(0, 1, 5), payment(1, 1, 5), payment(2, 2, 7)],
    );
    let settled = fixture.applier.apply(&first).await.unwrap();
    assert_eq!((settled.fresh, settled.dead_lettered), (2, 0));
    let held = settled.held.values().next().copied();
    let again = batch_of(held, &[payment(3, 2, 7), payment(4, 3, 1)]);
    let settled = fixture.applier.apply(&again).await.unwrap();
    assert_eq!(settled.fresh, 1);
    assert_eq!(fixture.cents().await, 13);
    assert_eq!(fixture.count("select count(*) from inbox").await, 3);
    let payloads: Vec<i64> =
        sqlx::query_scalar("select (payload->>'cents')::bigint from outbox order by seq")
            .fetch_all(&fixture.pool)
            .await
            .unwrap();
    assert_eq!(payloads, [5, 7, 1], "one answer an event, in order");
}

#[tokio::test]
async fn undecodable_messages_are_dead_lettered_whole_and_the_rest_is_applied() {
    let fixture = Fixture::new(Ledger::default()).await;
    let messages = [
        message(0, "payment.received", "no json \0"),
        message(1, "payment.lost", "{}"),
        message(2, "payment.noted", "{}"),
        payment(3, 1, 5),
    ];
    let settled = fixture
        .applier
        .apply(&batch_of(None, &messages))
        .await
        .unwrap();
    assert_eq!((settled.fresh, settled.dead_lettered), (4, 2));
    assert_eq!(fixture.cents().await, 5);
    let (value, names, at): (Vec<u8>, Vec<String>, Option<chrono::DateTime<chrono::Utc>>) = sqlx::query_as(
        r#"select value, header_names, produced_at from dead_letter where kind = 'poison' and "offset" = 0"#,
    )
    .fetch_one(&fixture.pool)
    .await
    .unwrap();
    assert_eq!(value, b"no json \0");
    assert_eq!(names, ["event_type"]);
    assert_eq!(at, None, "a time beyond the calendar costs no dead letter");
}

#[tokio::test]
async fn the_error_of_a_dead_letter_is_bounded() {
    let fixture = Fixture::new(Ledger::default()).await;
    let mut garbage = payment(0, 1, 5);
    let id = "x".repeat(100_000).into_bytes();
    garbage.headers.push(("id".to_owned(), Some(id)));
    fixture
        .applier
        .apply(&batch_of(None, &[garbage]))
        .await
        .unwrap();
    let length = "select length(error)::bigint from dead_letter where error like '%characters)'";
    assert!((2000..2100).contains(&fixture.count(length).await));
}

#[tokio::test]
async fn writing_any_number_of_dead_letters_leaves_no_prepared_statement() {
    let fixture = Fixture::new(Ledger::default()).await;
    // With a single connection.
    let others: Vec<_> = futures::future::join_all((1..4).map(|_| fixture.pool.acquire())).await;
    for last in 1..5 {
        let garbage: Vec<Message> = (0..last)
            .map(|offset| message(offset + 10 * last, "payment.lost", "{}"))
            .collect();
        let settled = fixture.applier.apply(&batch_of(None, &garbage)).await;
        assert_eq!(i64::try_from(settled.unwrap().dead_lettered).unwrap(), last);
    }
    let prepared = "select count(*) from pg_prepared_statements where statement like 'insert into dead_letter%'";
    assert_eq!(fixture.count(prepared).await, 0);
    drop(others);
}

#[tokio::test]
async fn events_that_the_handler_refuses_are_dead_lettered_and_the_rest_is_applied() {
    let refusals = vec![
        Refusal::deferred(id(2), "no such account"),
        Refusal::poison(id(3), "no"),
    ];
    let ledger = Ledger {
        fails: Mutex::new(vec![Failure::Refused(refusals)]),
        ..Ledger::default()
    };
    let fixture = Fixture::new(ledger).await;
    let messages = [payment(0, 1, 1), payment(1, 2, 10), payment(2, 3, 100)];
    let settled = fixture
        .applier
        .apply(&batch_of(None, &messages))
        .await
        .unwrap();
    assert_eq!((settled.fresh, settled.dead_lettered), (3, 2));
    assert_eq!(fixture.cents().await, 1);
    assert_eq!(
        fixture
            .count("select count(*) from dead_letter where kind = 'deferred'")
            .await,
        1
    );
    assert_eq!(fixture.count("select count(*) from outbox").await, 1);
}

#[tokio::test]
async fn a_failed_batch_leaves_no_row_and_is_applied_at_the_next_attempt() {
    let ledger = Ledger {
        fails: Mutex::new(vec![Failure::Transient("the weather".into())]),
        ..Ledger::default()
    };
    let fixture = Fixture::new(ledger).await;
    let batch = batch_of(None, &[payment(0, 1, 5)]);
    let failed = fixture.applier.apply(&batch).await.unwrap_err();
    assert!(matches!(failed.failure(), Failure::Transient(_)));
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);
    fixture.applier.apply(&batch).await.unwrap();
    assert_eq!(fixture.cents().await, 5);
}

#[tokio::test]
async fn a_panic_is_poison_and_its_connection_is_discarded() {
    let ledger = Ledger {
        panics: true,
        ..Ledger::default()
    };
    let fixture = Fixture::new(ledger).await;
    let backends = || async {
        sqlx::query_scalar::<_, i64>(
            "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'",
        )
        .fetch_one(&fixture.pool)
        .await
        .unwrap()
    };
    let batch = batch_of(None, &[payment(0, 1, 5)]);
    let settled = fixture.applier.apply(&batch).await.unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (0, 1));
    let why = "select count(*) from dead_letter where kind = 'poison' and error like '%on fire%'";
    assert_eq!(fixture.count(why).await, 1);
    assert_eq!(fixture.cents().await, 0);
    while backends().await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unknown_error_discards_the_connection() {
    let ledger = Ledger {
        fails: Mutex::new(vec![Failure::Unknown("?".into())]),
        ..Ledger::default()
    };
    let fixture = Fixture::new(ledger).await;
    // With a single connection.
    let others: Vec<_> = futures::future::join_all((1..4).map(|_| fixture.pool.acquire())).await;
    let backend = "select pg_backend_pid()::bigint";
    let before = fixture.count(backend).await;
    let batch = batch_of(None, &[payment(0, 1, 5)]);
    fixture.applier.apply(&batch).await.unwrap_err();
    assert_ne!(fixture.count(backend).await, before);
    drop(others);
}

#[tokio::test]
async fn a_database_error_that_the_handler_swallows_does_not_lose_the_batch() {
    let ledger = Ledger {
        swallows: true,
        ..Ledger::default()
    };
    let fixture = Fixture::new(ledger).await;
    let failed = fixture
        .applier
        .apply(&batch_of(None, &[payment(0, 1, 5)]))
        .await;
    let failed = failed.unwrap_err();
    assert!(
        matches!(failed.failure(), Failure::Unknown(_)),
        "{failed:?}"
    );
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);
}

#[tokio::test]
async fn a_superseded_consumer_writes_nothing_until_it_claims_again() {
    let fixture = Fixture::new(Ledger::default()).await;
    let first = fixture
        .applier
        .apply(&batch_of(None, &[payment(0, 1, 1)]))
        .await
        .unwrap();
    let stale = first.held.values().next().copied();
    // Another consumer claims the partition.
    fixture
        .applier
        .apply(&batch_of(None, &[payment(1, 2, 1)]))
        .await
        .unwrap();
    let woken = fixture
        .applier
        .apply(&batch_of(stale, &[payment(2, 3, 1)]))
        .await
        .unwrap();
    assert_eq!(woken.superseded.len(), 1);
    assert!(woken.held.is_empty());
    assert_eq!(fixture.cents().await, 2);
    let claimed = fixture
        .applier
        .apply(&batch_of(None, &[payment(2, 3, 1)]))
        .await
        .unwrap();
    assert_eq!(claimed.held.len(), 1);
    assert_eq!(fixture.cents().await, 3);
}

#[tokio::test]
async fn a_batch_that_was_taken_long_ago_writes_nothing_even_if_its_partition_is_still_held() {
    let fixture = Fixture::new(Ledger::default()).await;
    let mut stale = batch_of(None, &[payment(0, 1, 5)]);
    stale.taken_at = Moment::long_ago();
    let settled = fixture.applier.apply(&stale).await.unwrap();
    assert_eq!(settled.superseded.len(), 1);
    assert!(settled.held.is_empty(), "nothing is committed to Kafka");
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);
    fixture
        .applier
        .apply(&batch_of(None, &[payment(0, 1, 5)]))
        .await
        .unwrap();
    assert_eq!(fixture.cents().await, 5);
}

#[tokio::test]
async fn two_listeners_in_one_database_do_not_see_each_others_rows() {
    let fixture = Fixture::new(Ledger::default()).await;
    let batch = batch_of(None, &[payment(0, 1, 5)]);
    fixture.applier.apply(&batch).await.unwrap();
    let other = applier("other", &fixture.pool, Ledger::default());
    other.apply(&batch).await.unwrap();
    assert_eq!(fixture.cents().await, 10);
}
