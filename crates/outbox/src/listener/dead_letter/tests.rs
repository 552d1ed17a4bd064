//! Dead letters, parked keys and redrive, on real PostgreSQL. Interleavings are forced: a handler stops within its transaction
//! until it is let go, and others are seen to wait for its locks.

mod due;
mod failures;
mod keys;
mod meetings;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use stack::testing::{Context, database};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::Outgoing;
use crate::listener::batch::{Settled, Work};
use crate::listener::bisect::Unsettled;
use crate::listener::clock::Moment;
use crate::listener::{Received, Refusal};
use crate::message::{Message, Position};

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Note {
    #[serde(rename = "note.taken")]
    Taken {
        event_id: Uuid,
        #[serde(default, deserialize_with = "careless")]
        trap: bool,
    },
}

fn careless<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let trap = bool::deserialize(from)?;
    assert!(!trap, "it is a trap");
    Ok(trap)
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("there are no words for it");
    }
}

impl std::error::Error for Unspeakable {}

/// What becomes of an event.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Poison,
    Deferred,
    /// Breaks a rule of the database.
    Violates,
    /// Fails, and no rule says what that means.
    Strange,
    Panics,
    /// Wants a table that is not there.
    Lacks,
    /// Breaks a rule of the database, and goes on as if nothing had happened.
    Swallows,
    /// Refuses another event than it was given.
    Mistakes,
    Unspeakable,
    /// Takes longer than a statement may, among more events than that.
    Slow(usize),
    /// Leaves its connection idle for longer than the server waits, among more events than that; then sends so many bytes.
    Idle(usize, usize),
}

/// Writes each event down, unless it is told otherwise.
#[derive(Default)]
struct Clerk {
    verdicts: Mutex<HashMap<Uuid, Verdict>>,
    /// Where it stops within its transaction: it says that it is there, and waits to be let go.
    gate: Mutex<Option<Arc<Gate>>>,
}

struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

#[derive(Clone)]
struct Shared(Arc<Clerk>);

impl Handler for Shared {
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
            let verdict = self.0.verdicts.lock().unwrap().get(&event_id).copied();
            let statement = match verdict {
                None => "insert into note (id) values ($1)",
                Some(Verdict::Violates) => "insert into note (id, cents) values ($1, -1)",
                Some(Verdict::Strange) => "select strange($1)",
                Some(Verdict::Lacks) => "insert into lacking (id) values ($1)",
                Some(Verdict::Panics) => panic!("no such note"),
                Some(Verdict::Swallows) => {
                    let broken = sqlx::query("insert into note (cents) values (-1)");
                    drop(broken.execute(&mut **tx).await);
                    continue;
                }
                Some(Verdict::Mistakes) => {
                    refusals.push(Refusal::poison(Uuid::max(), "another"));
                    continue;
                }
                Some(Verdict::Unspeakable) => return Err(Failure::Unknown(Unspeakable.into())),
                Some(Verdict::Slow(above)) => {
                    sqlx::query("set local statement_timeout = 100")
                        .execute(&mut **tx)
                        .await?;
                    if batch.len() > above {
                        "select pg_sleep(60), $1::uuid"
                    } else {
                        "insert into note (id) values ($1)"
                    }
                }
                Some(Verdict::Idle(above, bytes)) => {
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
                Some(Verdict::Poison) => {
                    refusals.push(Refusal::poison(event_id, "never"));
                    continue;
                }
                Some(Verdict::Deferred) => {
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

struct Desk {
    pool: PgPool,
    clerk: Arc<Clerk>,
    batcher: Arc<Batcher<Shared>>,
    dead_letters: DeadLetters<Shared>,
}

const LISTENER: &str = "clerk";
/// What a test waits for has come by then, or never will.
const WITHIN: Duration = Duration::from_secs(60);

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, waits).await.expect(what);
}

impl Desk {
    async fn new() -> Self {
        Self::with(BreakerPolicy::default(), RetryPolicy::default()).await
    }

    async fn with(breaker: BreakerPolicy, retry: RetryPolicy) -> Self {
        let database = database(Context::Order).await;
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .connect_with(database.options("order_owner"))
            .await
            .unwrap();
        for ddl in [
            crate::schema::OUTBOX,
            crate::schema::INBOX,
            "create table note (seq bigint generated always as identity, id uuid unique, cents integer default 0 check (cents >= 0));
             create function strange(uuid) returns void language plpgsql as 'begin raise exception ''strange''; end'",
        ] {
            sqlx::raw_sql(ddl).execute(&pool).await.unwrap();
        }
        let clerk = Arc::new(Clerk::default());
        let handler = Shared(Arc::clone(&clerk));
        let batcher = Batcher::new(
            LISTENER.to_owned(),
            pool.clone(),
            handler.clone(),
            breaker,
            retry,
        );
        let dead_letters = DeadLetters::new(LISTENER, pool.clone(), handler, retry);
        Self {
            pool,
            clerk,
            batcher: Arc::new(batcher),
            dead_letters,
        }
    }

    fn told(&self, event: u128, verdict: Option<Verdict>) {
        let mut verdicts = self.clerk.verdicts.lock().unwrap();
        match verdict {
            Some(verdict) => verdicts.insert(id(event), verdict),
            None => verdicts.remove(&id(event)),
        };
    }

    /// From now on the handler stops within its transaction.
    fn stops(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate {
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
        });
        *self.clerk.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    fn stops_no_more(&self) {
        *self.clerk.gate.lock().unwrap() = None;
    }

    async fn settle(&self, epoch: Option<i64>, messages: &[Message]) -> Settled {
        self.batcher.settle(&work(epoch, messages)).await.unwrap()
    }

    /// As [`settle`](Self::settle), beside the test.
    fn settling(
        &self,
        epoch: Option<i64>,
        messages: &[Message],
    ) -> tokio::task::JoinHandle<Result<Settled, Box<Unsettled>>> {
        self.settling_work(work(epoch, messages))
    }

    fn settling_work(
        &self,
        work: Work,
    ) -> tokio::task::JoinHandle<Result<Settled, Box<Unsettled>>> {
        let batcher = Arc::clone(&self.batcher);
        tokio::spawn(async move { batcher.settle(&work).await })
    }

    /// An operator's dead letters, over connections from `pool`.
    fn operator(&self, pool: PgPool) -> DeadLetters<Shared> {
        let handler = Shared(Arc::clone(&self.clerk));
        DeadLetters::new(LISTENER, pool, handler, RetryPolicy::default())
    }

    /// An operator redrives `event`.
    fn redriving(&self, event: u128) -> tokio::task::JoinHandle<Result<Outcome, Failure>> {
        let dead_letters = self.operator(self.pool.clone());
        tokio::spawn(async move { dead_letters.redrive(id(event)).await })
    }

    /// The events that were written down, in that order.
    async fn notes(&self) -> Vec<u128> {
        let ids: Vec<Uuid> = sqlx::query_scalar("select id from note order by seq")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        ids.into_iter().map(|id| id.as_u128()).collect()
    }

    /// Dead letters by event and kind.
    async fn move_to_dead_letter(&self) -> Vec<(u128, Kind)> {
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

    /// Waits until somebody waits for a lock in this database.
    async fn somebody_waits(&self) {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        let waits = async || self.count(waiting).await > 0;
        eventually("somebody waits for a lock", waits).await;
    }

    /// All that is to be tried by itself is due.
    async fn are_due(&self) {
        let due = "update dead_letter set retry_at = now() where retry_at is not null";
        sqlx::query(due).execute(&self.pool).await.unwrap();
    }

    /// One look at what is due.
    async fn looks(&self) -> super::due::Pass {
        let stop = CancellationToken::new();
        self.batcher.redrive_due(&stop).await.unwrap()
    }

    /// Tries all that is due until nothing is.
    async fn tries_what_is_due(&self) {
        let stop = CancellationToken::new();
        let trying = tokio::spawn(keep_trying(Arc::clone(&self.batcher), stop.clone()));
        let due = "select count(*) from dead_letter where retry_at < now() + interval '1 minute'";
        let tried = async || self.count(due).await == 0;
        eventually("nothing is due", tried).await;
        stop.cancel();
        trying.await.unwrap();
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

fn work(epoch: Option<i64>, messages: &[Message]) -> Work {
    Work {
        messages: messages.to_vec(),
        epochs: BTreeMap::from([(("note".to_owned(), 0), epoch)]),
        taken: Moment::now(),
        most: 500,
        full: false,
    }
}

fn epoch(settled: &Settled) -> Option<i64> {
    settled.held.values().next().copied()
}
