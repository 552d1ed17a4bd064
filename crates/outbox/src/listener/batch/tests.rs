//! The transaction of a batch, on real PostgreSQL.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use stack::testing::{Context, database};

use super::*;
use crate::listener::Refusal;
use crate::message::Position;
use crate::{Event, Outgoing};

const LISTENER: &str = "till";

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
        "till".to_owned()
    }
}

/// Adds up cents in a table, answers each payment with an event, and fails as told.
#[derive(Default)]
struct Till {
    fails: Mutex<Vec<Failure>>,
    panics: bool,
    swallows: bool,
}

impl Handler for Till {
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
            sqlx::query("update till set cents = cents + $1")
                .bind(cents)
                .execute(&mut **tx)
                .await?;
            let event_id = Uuid::now_v7();
            outgoing.push(Outgoing::new(&Payment::Received { event_id, cents })?);
        }
        assert!(!self.panics, "the till is on fire");
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
    batcher: Batcher<Till>,
}

impl Fixture {
    async fn new(till: Till) -> Self {
        let database = database(Context::Order).await;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_with(database.options("order_owner"))
            .await
            .unwrap();
        for ddl in [crate::schema::OUTBOX, crate::schema::INBOX] {
            sqlx::raw_sql(ddl).execute(&pool).await.unwrap();
        }
        sqlx::raw_sql("create table till (cents bigint not null); insert into till values (0)")
            .execute(&pool)
            .await
            .unwrap();
        let batcher = batcher(LISTENER, &pool, till);
        Self { pool, batcher }
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn cents(&self) -> i64 {
        self.count("select cents from till").await
    }
}

fn batcher(listener: &str, pool: &PgPool, till: Till) -> Batcher<Till> {
    let (breaker, retry) = (BreakerPolicy::default(), RetryPolicy::default());
    Batcher::new(listener.to_owned(), pool.clone(), till, breaker, retry)
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

fn work(epoch: Option<i64>, messages: &[Message]) -> Work {
    let partition = ("payment".to_owned(), 0);
    Work {
        messages: messages.to_vec(),
        epochs: BTreeMap::from([(partition, epoch)]),
        taken: Moment::now(),
        most: 500,
        full: false,
    }
}

#[tokio::test]
async fn a_redelivered_event_is_applied_once() {
    let fixture = Fixture::new(Till::default()).await;
    let first = work(
        None,
        &[payment(0, 1, 5), payment(1, 1, 5), payment(2, 2, 7)],
    );
    let settled = fixture.batcher.settle(&first).await.unwrap();
    assert_eq!((settled.fresh, settled.dead_lettered), (2, 0));
    let held = settled.held.values().next().copied();
    let again = work(held, &[payment(3, 2, 7), payment(4, 3, 1)]);
    let settled = fixture.batcher.settle(&again).await.unwrap();
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
async fn what_does_not_decode_is_dead_lettered_whole_and_the_rest_is_applied() {
    let fixture = Fixture::new(Till::default()).await;
    let batch = [
        message(0, "payment.received", "no json \0"),
        message(1, "payment.lost", "{}"),
        message(2, "payment.noted", "{}"),
        payment(3, 1, 5),
    ];
    let settled = fixture.batcher.settle(&work(None, &batch)).await.unwrap();
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
async fn a_dead_letter_does_not_quote_its_message_whole() {
    let fixture = Fixture::new(Till::default()).await;
    let mut garbage = payment(0, 1, 5);
    let id = "x".repeat(100_000).into_bytes();
    garbage.headers.push(("id".to_owned(), Some(id)));
    fixture
        .batcher
        .settle(&work(None, &[garbage]))
        .await
        .unwrap();
    let length = "select length(error)::bigint from dead_letter where error like '%characters)'";
    assert!((2000..2100).contains(&fixture.count(length).await));
}

#[tokio::test]
async fn dead_letters_of_any_number_leave_no_prepared_statement_behind() {
    let fixture = Fixture::new(Till::default()).await;
    // On the one connection that there is.
    let others: Vec<_> = futures::future::join_all((1..4).map(|_| fixture.pool.acquire())).await;
    for last in 1..5 {
        let garbage: Vec<Message> = (0..last)
            .map(|offset| message(offset + 10 * last, "payment.lost", "{}"))
            .collect();
        let settled = fixture.batcher.settle(&work(None, &garbage)).await;
        assert_eq!(i64::try_from(settled.unwrap().dead_lettered).unwrap(), last);
    }
    let prepared = "select count(*) from pg_prepared_statements where statement like 'insert into dead_letter%'";
    assert_eq!(fixture.count(prepared).await, 0);
    drop(others);
}

#[tokio::test]
async fn what_the_handler_refuses_is_dead_lettered_and_the_rest_is_applied() {
    let refusals = vec![
        Refusal::deferred(id(2), "no such account"),
        Refusal::poison(id(3), "no"),
    ];
    let till = Till {
        fails: Mutex::new(vec![Failure::Refused(refusals)]),
        ..Till::default()
    };
    let fixture = Fixture::new(till).await;
    let batch = [payment(0, 1, 1), payment(1, 2, 10), payment(2, 3, 100)];
    let settled = fixture.batcher.settle(&work(None, &batch)).await.unwrap();
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
async fn a_batch_that_fails_leaves_nothing_and_comes_again() {
    let till = Till {
        fails: Mutex::new(vec![Failure::Transient("the weather".into())]),
        ..Till::default()
    };
    let fixture = Fixture::new(till).await;
    let batch = work(None, &[payment(0, 1, 5)]);
    let failed = fixture.batcher.settle(&batch).await.unwrap_err();
    assert!(matches!(failed.failure, Failure::Transient(_)));
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);
    fixture.batcher.settle(&batch).await.unwrap();
    assert_eq!(fixture.cents().await, 5);
}

#[tokio::test]
async fn a_panic_is_poison_and_its_connection_is_closed() {
    let till = Till {
        panics: true,
        ..Till::default()
    };
    let fixture = Fixture::new(till).await;
    let backends = || async {
        sqlx::query_scalar::<_, i64>(
            "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'",
        )
        .fetch_one(&fixture.pool)
        .await
        .unwrap()
    };
    let batch = work(None, &[payment(0, 1, 5)]);
    let settled = fixture.batcher.settle(&batch).await.unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (0, 1));
    let why = "select count(*) from dead_letter where kind = 'poison' and error like '%on fire%'";
    assert_eq!(fixture.count(why).await, 1);
    assert_eq!(fixture.cents().await, 0);
    while backends().await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn after_an_unknown_error_the_connection_is_closed() {
    let till = Till {
        fails: Mutex::new(vec![Failure::Unknown("?".into())]),
        ..Till::default()
    };
    let fixture = Fixture::new(till).await;
    // On the one connection that there is.
    let others: Vec<_> = futures::future::join_all((1..4).map(|_| fixture.pool.acquire())).await;
    let backend = "select pg_backend_pid()::bigint";
    let before = fixture.count(backend).await;
    let batch = work(None, &[payment(0, 1, 5)]);
    fixture.batcher.settle(&batch).await.unwrap_err();
    assert_ne!(fixture.count(backend).await, before);
    drop(others);
}

#[tokio::test]
async fn an_error_that_the_handler_swallows_does_not_lose_the_batch() {
    let till = Till {
        swallows: true,
        ..Till::default()
    };
    let fixture = Fixture::new(till).await;
    let failed = fixture
        .batcher
        .settle(&work(None, &[payment(0, 1, 5)]))
        .await;
    let failure = failed.unwrap_err().failure;
    assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);
}

#[tokio::test]
async fn a_superseded_consumer_writes_nothing_until_it_claims_again() {
    let fixture = Fixture::new(Till::default()).await;
    let first = fixture
        .batcher
        .settle(&work(None, &[payment(0, 1, 1)]))
        .await
        .unwrap();
    let stale = first.held.values().next().copied();
    // Another consumer claims the partition.
    fixture
        .batcher
        .settle(&work(None, &[payment(1, 2, 1)]))
        .await
        .unwrap();
    let woken = fixture
        .batcher
        .settle(&work(stale, &[payment(2, 3, 1)]))
        .await
        .unwrap();
    assert_eq!(woken.superseded.len(), 1);
    assert!(woken.held.is_empty());
    assert_eq!(fixture.cents().await, 2);
    let claimed = fixture
        .batcher
        .settle(&work(None, &[payment(2, 3, 1)]))
        .await
        .unwrap();
    assert_eq!(claimed.held.len(), 1);
    assert_eq!(fixture.cents().await, 3);
}

#[tokio::test]
async fn a_batch_that_was_taken_long_ago_is_left_out_whoever_holds_the_partition() {
    let fixture = Fixture::new(Till::default()).await;
    let mut stale = work(None, &[payment(0, 1, 5)]);
    stale.taken = Moment::long_ago();
    let settled = fixture.batcher.settle(&stale).await.unwrap();
    assert_eq!(settled.superseded.len(), 1);
    assert!(settled.held.is_empty(), "nothing is committed to Kafka");
    assert_eq!(fixture.count("select count(*) from inbox").await, 0);
    fixture
        .batcher
        .settle(&work(None, &[payment(0, 1, 5)]))
        .await
        .unwrap();
    assert_eq!(fixture.cents().await, 5);
}

#[tokio::test]
async fn two_listeners_in_one_database_do_not_see_each_other() {
    let fixture = Fixture::new(Till::default()).await;
    let batch = work(None, &[payment(0, 1, 5)]);
    fixture.batcher.settle(&batch).await.unwrap();
    let other = batcher("other", &fixture.pool, Till::default());
    other.settle(&batch).await.unwrap();
    assert_eq!(fixture.cents().await, 10);
}
