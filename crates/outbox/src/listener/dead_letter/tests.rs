//! Dead letters, parked keys and redrive, on real PostgreSQL. Tests force interleavings: the handler is held within its
//! transaction, and the test observes that others wait for its locks.

mod concurrency;
mod failures;
mod keys;
mod retries;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::event::Outgoing;
use crate::listener::apply::Applier;
use crate::listener::batch::{Batch, Settled, Unsettled};
use crate::listener::breaker::BreakerPolicy;
use crate::listener::clock::Moment;
use crate::listener::failure::Refusal;
use crate::listener::handler::Received;
use crate::listener::partition::Partition;
use crate::listener::testing::{applier, migrated};
use crate::message::{Message, Position};

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Note {
    #[serde(rename = "note.taken")]
    Taken {
        event_id: Uuid,
        #[serde(default, deserialize_with = "deserialize_trap")]
        trap: bool,
    },
}

fn deserialize_trap<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let trap = bool::deserialize(from)?;
    assert!(!trap, "it is a trap");
    Ok(trap)
}

/// An error whose `Display` panics.
#[derive(Debug)]
struct DisplayPanics;

impl std::fmt::Display for DisplayPanics {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("there are no words for it");
    }
}

impl std::error::Error for DisplayPanics {}

/// What the handler does with an event.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Poison,
    Deferred,
    /// Violates a constraint.
    ViolatesConstraint,
    /// Fails with an error that is neither transient nor poison.
    UnknownError,
    Panics,
    /// Uses a table that does not exist.
    MissingTable,
    /// Violates a constraint, and ignores the error.
    SwallowsError,
    /// Refuses an event that it was not given.
    RefusesAnother,
    DisplayPanics,
    /// Exceeds the statement time-out in batches of more events than that.
    Slow(usize),
    /// Exceeds the idle time-out in batches of more events than that, then sends so many bytes.
    Idle(usize, usize),
}

/// Inserts each event into the table `note`, unless it is set to do something else.
#[derive(Default)]
struct Script {
    behaviours: Mutex<HashMap<Uuid, Behaviour>>,
    /// Where it is held within its transaction.
    gate: Mutex<Option<Arc<Gate>>>,
}

struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

#[derive(Clone)]
struct Scripted(Arc<Script>);

impl Handler for Scripted {
    type Event = Note;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Note>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let mut refusals = Vec::new();
        for received in batch {
            let Note::Taken { event_id, trap } = received.event;
            assert!(!trap);
            let behaviour = self.0.behaviours.lock().unwrap().get(&event_id).copied();
            let statement = match behaviour {
                None => "insert into note (id) values ($1)",
                Some(Behaviour::ViolatesConstraint) => {
                    "insert into note (id, cents) values ($1, -1)"
                }
                Some(Behaviour::UnknownError) => "select unknown_error($1)",
                Some(Behaviour::MissingTable) => "insert into lacking (id) values ($1)",
                Some(Behaviour::Panics) => panic!("no such note"),
                Some(Behaviour::SwallowsError) => {
                    let broken = sqlx::query("insert into note (cents) values (-1)");
                    drop(broken.execute(&mut **tx).await);
                    continue;
                }
                Some(Behaviour::RefusesAnother) => {
                    refusals.push(Refusal::poison(Uuid::max(), "another"));
                    continue;
                }
                Some(Behaviour::DisplayPanics) => {
                    return Err(Failure::Unknown(DisplayPanics.into()));
                }
                Some(Behaviour::Slow(above)) => {
                    sqlx::query("set local statement_timeout = 100")
                        .execute(&mut **tx)
                        .await?;
                    if batch.len() > above {
                        "select pg_sleep(60), $1::uuid"
                    } else {
                        "insert into note (id) values ($1)"
                    }
                }
                Some(Behaviour::Idle(above, bytes)) => {
                    if batch.len() > above {
                        sqlx::query("set local idle_in_transaction_session_timeout = 50")
                            .execute(&mut **tx)
                            .await?;
                        // Prepared, so that it is sent with its argument at once.
                        let echo = || sqlx::query("select $1");
                        echo().bind("").execute(&mut **tx).await?;
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        echo().bind("x".repeat(bytes)).execute(&mut **tx).await?;
                    }
                    "insert into note (id) values ($1)"
                }
                Some(Behaviour::Poison) => {
                    refusals.push(Refusal::poison(event_id, "never"));
                    continue;
                }
                Some(Behaviour::Deferred) => {
                    refusals.push(Refusal::deferred(event_id, "not yet"));
                    continue;
                }
            };
            sqlx::query(statement)
                .bind(event_id)
                .execute(&mut **tx)
                .await?;
        }
        if !refusals.is_empty() {
            return Err(Failure::Refused(refusals));
        }
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.reached.add_permits(1);
            gate.open.acquire().await.unwrap().forget();
        }
        Ok(Vec::new())
    }
}

struct Fixture {
    pool: PgPool,
    script: Arc<Script>,
    applier: Arc<Applier<Scripted>>,
    dead_letters: DeadLetters<Scripted>,
}

const LISTENER: &str = "notes";
/// The longest wait of a test.
const WITHIN: Duration = Duration::from_secs(60);

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, waits).await.expect(what);
}

impl Fixture {
    async fn new() -> Self {
        Self::with(BreakerPolicy::default(), RetryPolicy::default()).await
    }

    async fn with(breaker: BreakerPolicy, retry: RetryPolicy) -> Self {
        let pool = migrated(
            6,
            "create table note (seq bigint generated always as identity, id uuid unique, cents integer default 0 check (cents >= 0));
             create function unknown_error(uuid) returns void language plpgsql as 'begin raise exception ''no known reason''; end'",
        )
        .await;
        let script = Arc::new(Script::default());
        let handler = Scripted(Arc::clone(&script));
        let applier = applier(LISTENER, pool.clone(), handler.clone(), breaker, retry);
        let dead_letters = DeadLetters::new(LISTENER, pool.clone(), handler, retry);
        Self {
            pool,
            script,
            applier: Arc::new(applier),
            dead_letters,
        }
    }

    fn set(&self, event: u128, behaviour: Option<Behaviour>) {
        let mut behaviours = self.script.behaviours.lock().unwrap();
        match behaviour {
            Some(behaviour) => behaviours.insert(id(event), behaviour),
            None => behaviours.remove(&id(event)),
        };
    }

    /// Holds the handler within its transactions from now on.
    fn hold(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate {
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
        });
        *self.script.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    fn hold_no_more(&self) {
        *self.script.gate.lock().unwrap() = None;
    }

    async fn apply(&self, epoch: Option<i64>, messages: &[Message]) -> Settled {
        self.applier
            .apply(&batch_of(epoch, messages))
            .await
            .unwrap()
    }

    /// As [`apply`](Self::apply), in a task of its own.
    fn spawn_apply(
        &self,
        epoch: Option<i64>,
        messages: &[Message],
    ) -> tokio::task::JoinHandle<Result<Settled, Box<Unsettled>>> {
        self.spawn_apply_batch(batch_of(epoch, messages))
    }

    fn spawn_apply_batch(
        &self,
        batch: Batch,
    ) -> tokio::task::JoinHandle<Result<Settled, Box<Unsettled>>> {
        let applier = Arc::clone(&self.applier);
        tokio::spawn(async move { applier.apply(&batch).await })
    }

    /// An operator's dead letters, over connections from `pool`.
    fn operator(&self, pool: PgPool) -> DeadLetters<Scripted> {
        let handler = Scripted(Arc::clone(&self.script));
        DeadLetters::new(LISTENER, pool, handler, RetryPolicy::default())
    }

    /// An operator redrives `event`.
    fn spawn_redrive(&self, event: u128) -> tokio::task::JoinHandle<Result<Outcome, Failure>> {
        let dead_letters = self.operator(self.pool.clone());
        tokio::spawn(async move { dead_letters.redrive(id(event)).await })
    }

    /// The events that the handler has written, in that order.
    async fn notes(&self) -> Vec<u128> {
        let ids: Vec<Uuid> = sqlx::query_scalar("select id from note order by seq")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        ids.into_iter().map(|id| id.as_u128()).collect()
    }

    /// The dead letters' events and kinds, in their order.
    async fn kinds(&self) -> Vec<(u128, Kind)> {
        let dead_letters = self
            .dead_letters
            .list(&Filter::default(), 100)
            .await
            .unwrap();
        dead_letters
            .iter()
            .map(|dead_letter| (dead_letter.id.as_u128(), dead_letter.kind))
            .collect()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until a session waits for a lock in this database.
    async fn a_lock_is_awaited(&self) {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        let waits = async || self.count(waiting).await > 0;
        eventually("a lock is awaited", waits).await;
    }

    /// Ends the back-off of all automatic retries.
    async fn end_backoff(&self) {
        let query = "update dead_letter set retry_at = now() where retry_at is not null";
        sqlx::query(query).execute(&self.pool).await.unwrap();
    }

    /// One pass of automatic retries.
    async fn pass(&self) -> super::retry_loop::Pass {
        let stop = CancellationToken::new();
        self.applier.transactions.retry_pass(&stop).await.unwrap()
    }

    /// Runs automatic retries until none is left.
    async fn retry_all(&self) {
        let stop = CancellationToken::new();
        let retrying = tokio::spawn(retry_loop::run(
            Arc::clone(&self.applier.transactions),
            stop.clone(),
        ));
        let query = "select count(*) from dead_letter where retry_at < now() + interval '1 minute'";
        let retried = async || self.count(query).await == 0;
        eventually("no dead letter waits for its retry", retried).await;
        stop.cancel();
        retrying.await.unwrap();
    }
}

fn partition(topic: &str) -> Partition {
    Partition {
        topic: topic.to_owned(),
        number: 0,
    }
}

fn id(event: u128) -> Uuid {
    Uuid::from_u128(event)
}

/// Event `event` of key `key`, at the offset of its number.
fn note(event: u128, key: Option<&str>) -> Message {
    Message {
        at: Position {
            topic: "note".to_owned(),
            partition: 0,
            offset: i64::try_from(event).unwrap(),
        },
        timestamp: Some(1_700_000_000_123),
        key: key.map(|key| key.as_bytes().to_vec()),
        headers: vec![("event_type".to_owned(), Some(b"note.taken".to_vec()))],
        value: Some(json!({ "event_id": id(event) }).to_string().into_bytes()),
    }
}

fn notes(key: &str, events: &[u128]) -> Vec<Message> {
    events.iter().map(|event| note(*event, Some(key))).collect()
}

fn batch_of(epoch: Option<i64>, messages: &[Message]) -> Batch {
    Batch {
        messages: messages.to_vec(),
        epochs: [(partition("note"), epoch)].into(),
        taken_at: Moment::now(),
        max_transaction: 500,
        is_full: false,
    }
}

fn epoch(settled: &Settled) -> Option<i64> {
    settled.held.values().next().copied()
}
