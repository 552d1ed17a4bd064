//! Letters, parked keys and redrive, on real PostgreSQL. Interleavings are forced: a handler stops within its transaction
//! until it is let go, and others are seen to wait for its locks.

mod due;

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
use crate::listener::clock::Moment;
use crate::listener::split::Unsettled;
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
    letters: Letters<Shared>,
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
        Self::with(Breaker::default(), Deferral::default()).await
    }

    async fn with(breaker: Breaker, deferral: Deferral) -> Self {
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
            deferral,
        );
        let letters = Letters::new(LISTENER, pool.clone(), handler, deferral);
        Self {
            pool,
            clerk,
            batcher: Arc::new(batcher),
            letters,
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

    /// The events that were written down, in that order.
    async fn notes(&self) -> Vec<u128> {
        let ids: Vec<Uuid> = sqlx::query_scalar("select id from note order by seq")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        ids.into_iter().map(|id| id.as_u128()).collect()
    }

    /// Letters by event and kind.
    async fn put_aside(&self) -> Vec<(u128, Kind)> {
        let letters = self.letters.list(&Filter::default(), 100).await.unwrap();
        letters
            .iter()
            .map(|letter| (letter.id.as_u128(), letter.kind))
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
    async fn looks(&self) -> redrive::Pass {
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

#[tokio::test]
async fn what_breaks_a_rule_is_found_and_put_aside_and_all_else_is_applied() {
    for verdict in [Verdict::Violates, Verdict::Panics, Verdict::Poison] {
        let desk = Desk::new().await;
        desk.told(13, Some(verdict));
        let batch: Vec<Message> = (1..=20).map(|event| note(event, None)).collect();
        let settled = desk.settle(None, &batch).await;
        assert_eq!(
            (settled.fresh, settled.applied, settled.lettered),
            (20, 19, 1),
            "{verdict:?}"
        );
        assert_eq!(desk.put_aside().await, [(13, Kind::Poison)]);
        let others: Vec<u128> = (1..=20).filter(|event| *event != 13).collect();
        assert_eq!(desk.notes().await, others, "in order");
        assert_eq!(desk.count("select count(*) from inbox").await, 20);
    }
}

#[tokio::test]
async fn what_fails_strangely_is_put_aside_only_where_others_can_be_applied() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Strange));
    let alone = desk.batcher.settle(&work(None, &notes("a", &[1, 2]))).await;
    let alone = alone.unwrap_err();
    assert!(matches!(alone.failure, Failure::Unknown(why) if why.to_string().contains("strange")));
    assert_eq!(alone.left, [0, 1]);
    assert_eq!(desk.count("select count(*) from dead_letter").await, 0);
    assert_eq!(desk.count("select count(*) from inbox").await, 0);

    let mut batch = notes("a", &[1, 2]);
    batch.push(note(3, Some("b")));
    let settled = desk.settle(None, &batch).await;
    assert_eq!(
        (settled.applied, settled.lettered, settled.parked),
        (1, 2, 1)
    );
    assert_eq!(
        desk.put_aside().await,
        [(1, Kind::Unknown), (2, Kind::Parked)]
    );
    assert_eq!(desk.notes().await, [3]);
}

#[tokio::test]
async fn what_is_missing_is_waited_for_and_somebody_is_told_what_to_do() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Lacks));
    let batch = work(None, &notes("a", &[1, 2]));
    let unsettled = desk.batcher.settle(&batch).await.unwrap_err();
    let failure = unsettled.failure;
    assert!(matches!(failure, Failure::Transient(_)), "{failure:?}");
    assert!(failure.advice().unwrap().contains("migrate"));
    assert_eq!(unsettled.left, [0, 1]);
}

#[tokio::test]
async fn what_a_handler_gets_wrong_of_one_message_holds_up_no_other() {
    for (verdict, kind) in [
        (Verdict::Swallows, Kind::Unknown),
        (Verdict::Mistakes, Kind::Unknown),
        (Verdict::Unspeakable, Kind::Poison),
    ] {
        let desk = Desk::new().await;
        desk.told(3, Some(verdict));
        let batch: Vec<Message> = (1..=5).map(|event| note(event, None)).collect();
        let settled = desk.settle(None, &batch).await;
        assert_eq!((settled.applied, settled.lettered), (4, 1), "{verdict:?}");
        assert_eq!(desk.put_aside().await, [(3, kind)]);
        let mut notes = desk.notes().await;
        notes.sort_unstable();
        assert_eq!(notes, [1, 2, 4, 5], "{verdict:?}");
        // An operator learns as much.
        let outcome = desk.letters.redrive(id(3)).await.unwrap();
        assert!(
            matches!(outcome, Outcome::Failed { kind: again, .. } if again == kind),
            "{verdict:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_event_that_panics_as_it_is_read_is_put_aside() {
    let desk = Desk::new().await;
    let mut trap = note(2, Some("a"));
    trap.value = Some(
        json!({ "event_id": id(2), "trap": true })
            .to_string()
            .into_bytes(),
    );
    let settled = desk
        .settle(None, &[note(1, None), trap, note(3, Some("a"))])
        .await;
    assert_eq!((settled.applied, settled.parked), (1, 1));
    assert_eq!(
        desk.put_aside().await,
        [(2, Kind::Poison), (3, Kind::Parked)]
    );
    let letter = desk.letters.find(id(2)).await.unwrap().unwrap();
    assert!(letter.error.contains("it is a trap"), "{}", letter.error);
}

#[tokio::test]
async fn what_takes_too_long_together_is_applied_in_parts() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Slow(2)));
    desk.told(7, Some(Verdict::Slow(2)));
    let batch: Vec<Message> = (1..=8).map(|event| note(event, None)).collect();
    let settled = desk.settle(None, &batch).await;
    assert_eq!((settled.applied, settled.lettered), (8, 0));
    assert_eq!(desk.notes().await, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_batch_that_leaves_its_connection_idle_for_too_long_is_applied_in_parts() {
    // The second is too large to be sent before the connection is seen to be closed.
    for bytes in [1, 10_000_000] {
        let desk = Desk::new().await;
        desk.told(1, Some(Verdict::Idle(2, bytes)));
        desk.told(8, Some(Verdict::Idle(2, bytes)));
        let batch: Vec<Message> = (1..=8).map(|event| note(event, None)).collect();
        let settled = desk.settle(None, &batch).await;
        assert_eq!((settled.applied, settled.lettered), (8, 0), "{bytes} bytes");
        assert_eq!(desk.notes().await, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[tokio::test]
async fn what_was_parked_for_long_and_is_to_wait_further_has_its_time() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.told(2, Some(Verdict::Deferred));
    desk.settle(None, &notes("a", &[1, 2])).await;
    let parked = desk.letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!(parked.attempts, 0);
    sqlx::query("update dead_letter set lettered_at = now() - interval '1 day'")
        .execute(&desk.pool)
        .await
        .unwrap();
    assert!(desk.letters.drop(id(1), "a test").await.unwrap());
    desk.letters.redrive(id(2)).await.unwrap();
    let deferred = desk.letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!((deferred.kind, deferred.attempts), (Kind::Deferred, 1));
    assert!(deferred.retry_at.is_some());
    desk.told(2, None);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [2]);
}

#[test]
fn a_letter_is_tried_for_as_long_as_its_waits_take() {
    let deferral = Deferral {
        first_ms: 1000,
        most_s: 4,
        for_s: 20,
    };
    let waits: Vec<u64> = (1..)
        .map_while(|attempts| deferral.next(attempts))
        .map(|wait| wait.as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4, 4, 4, 4]);
    let hasty = Deferral {
        first_ms: 0,
        ..deferral
    };
    assert_eq!(
        (1..).map_while(|attempts| hasty.next(attempts)).count(),
        40,
        "two a second"
    );
}

#[tokio::test]
async fn a_letter_that_cannot_be_tried_now_does_not_hold_up_others() {
    let desk = Desk::new().await;
    for event in [1, 2] {
        desk.told(event, Some(Verdict::Deferred));
    }
    let batch = [note(1, Some("a")), note(2, Some("b"))];
    assert_eq!(desk.settle(None, &batch).await.lettered, 2);
    desk.told(1, Some(Verdict::Lacks));
    desk.told(2, None);
    let stop = CancellationToken::new();
    let trying = tokio::spawn(keep_trying(Arc::clone(&desk.batcher), stop.clone()));
    let applied = async |events: &[u128]| {
        eventually("it is applied", async || desk.notes().await == events).await;
    };
    applied(&[2]).await;
    assert_eq!(desk.put_aside().await, [(1, Kind::Deferred)]);
    desk.told(1, None);
    applied(&[2, 1]).await;
    stop.cancel();
    trying.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_letters_that_stay_does_not_keep_one_that_can_be_applied() {
    const HONEST: u128 = 3001;
    let all = (1..=HONEST).map(|event| note(event, Some(&event.to_string())));
    let all: Vec<Message> = all.collect();
    // One that is put aside last, long after the flood has begun; one that waits already, while the flood comes.
    for (of_flood, of_honest) in [((5, 60), (1, 0)), ((1, 0), (5, 60))] {
        let desk = Desk::new().await;
        for event in 1..=HONEST {
            desk.told(event, Some(Verdict::Deferred));
        }
        desk.settle(None, &all).await;
        let (tries, due_for) = of_flood;
        for (is_honest, (tries, due_for)) in [(false, of_flood), (true, of_honest)] {
            sqlx::query(
                "update dead_letter set attempts = $3, retry_at = now() - make_interval(secs => $4)
                 where (id = $1) = $2",
            )
            .bind(id(HONEST))
            .bind(is_honest)
            .bind(tries)
            .bind(f64::from(due_for))
            .execute(&desk.pool)
            .await
            .unwrap();
        }
        desk.told(HONEST, None);
        let stop = CancellationToken::new();
        let trying = tokio::spawn(keep_trying(Arc::clone(&desk.batcher), stop.clone()));
        eventually("it is applied", async || !desk.notes().await.is_empty()).await;
        stop.cancel();
        trying.await.unwrap();
        let others: i64 = sqlx::query_scalar("select sum(attempts - $1) from dead_letter")
            .bind(tries)
            .fetch_one(&desk.pool)
            .await
            .unwrap();
        assert!(
            others < 200,
            "{others} others were tried before it, {due_for}"
        );
    }
}

#[test]
fn what_is_due_is_tried_without_a_rest_as_long_as_that_gets_anywhere() {
    let pass = |full, applied, stayed, fails: bool| {
        let failed = fails.then(|| (None, Failure::Transient("away".into())));
        redrive::Pass {
            full,
            applied,
            stayed,
            failed,
        }
        .rest()
    };
    let (at_once, look, rest) = (Duration::ZERO, redrive::LOOK, redrive::REST);
    assert_eq!(pass(true, 0, 100, false), at_once);
    assert_eq!(pass(true, 0, 99, true), at_once);
    assert_eq!(pass(false, 1, 0, true), at_once);
    assert_eq!(pass(false, 0, 99, false), look);
    assert_eq!(pass(true, 0, 0, false), look, "others are just trying them");
    assert_eq!(pass(true, 0, 0, true), rest, "none can be tried");
    assert_eq!(pass(false, 0, 99, true), rest);
}

#[tokio::test]
async fn what_comes_later_of_a_letters_key_waits_and_others_flow() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let mut batch = notes("a", &[1, 2]);
    batch.extend([note(3, Some("b")), note(4, None)]);
    let settled = desk.settle(None, &batch).await;
    assert_eq!(
        (settled.applied, settled.lettered, settled.parked),
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
        desk.put_aside().await,
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
    assert_eq!(desk.put_aside().await.len(), 4);
}

#[tokio::test]
async fn letters_without_a_key_hold_nothing_back() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &[note(1, None), note(2, None)]).await;
    assert_eq!(desk.notes().await, [2]);
    assert_eq!(desk.count("select count(*) from blocked_key").await, 0);
    desk.told(1, None);
    assert_eq!(desk.letters.redrive(id(1)).await.unwrap(), Outcome::Applied);
    assert_eq!(desk.notes().await, [2, 1]);
}

#[tokio::test]
async fn a_letter_that_is_redriven_lets_what_waits_follow_in_order_and_frees_its_key() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Violates));
    let settled = desk.settle(None, &notes("a", &[1, 2, 3])).await;
    assert_eq!(desk.letters.redrive(id(2)).await.unwrap(), Outcome::Behind);
    let Outcome::Failed {
        kind,
        attempts,
        error,
    } = desk.letters.redrive(id(1)).await.unwrap()
    else {
        panic!("it cannot be applied yet");
    };
    assert_eq!((kind, attempts), (Kind::Poison, 2));
    assert!(error.contains("note_cents_check"), "{error}");
    let letter = desk.letters.find(id(1)).await.unwrap().unwrap();
    assert_eq!((letter.attempts, &letter.error), (2, &error));
    assert_eq!(letter.message, note(1, Some("a")), "whole");
    assert_eq!(letter.event_type().as_deref(), Some("note.taken"));

    desk.told(1, None);
    assert_eq!(desk.letters.redrive(id(1)).await.unwrap(), Outcome::Applied);
    assert_eq!(desk.letters.redrive(id(1)).await.unwrap(), Outcome::Gone);
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
        desk.put_aside().await,
        [(2, Kind::Poison), (3, Kind::Parked)]
    );
}

#[tokio::test]
async fn a_deferred_letter_is_tried_by_itself_for_a_while_and_then_left() {
    let soon = Deferral {
        first_ms: 1,
        most_s: 1,
        for_s: 2,
    };
    let desk = Desk::with(Breaker::default(), soon).await;
    desk.told(1, Some(Verdict::Deferred));
    desk.told(2, Some(Verdict::Deferred));
    desk.settle(None, &[note(1, Some("a")), note(2, Some("b"))])
        .await;
    desk.told(1, None);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [1]);
    let left = desk.letters.find(id(2)).await.unwrap().unwrap();
    assert_eq!((left.kind, left.retry_at), (Kind::Deferred, None));
    assert!(left.attempts > 3, "{} attempts", left.attempts);
    assert_eq!(left.error, "not yet");
    desk.told(2, None);
    assert_eq!(desk.letters.redrive(id(2)).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_letter_whose_try_takes_too_long_is_tried_for_a_while_and_then_left() {
    let soon = Deferral {
        first_ms: 1,
        most_s: 1,
        for_s: 2,
    };
    for verdict in [Verdict::Slow(0), Verdict::Idle(0, 1)] {
        let desk = Desk::with(Breaker::default(), soon).await;
        desk.told(1, Some(Verdict::Deferred));
        desk.settle(None, &notes("a", &[1, 2])).await;
        desk.told(1, Some(verdict));
        desk.tries_what_is_due().await;
        let left = desk.letters.find(id(1)).await.unwrap().unwrap();
        assert_eq!((left.kind, left.retry_at), (Kind::Unknown, None));
        assert!(left.attempts > 3, "{} attempts", left.attempts);
        desk.told(1, None);
        assert_eq!(desk.letters.redrive(id(1)).await.unwrap(), Outcome::Applied);
        desk.tries_what_is_due().await;
        assert_eq!(desk.notes().await, [1, 2]);
    }
}

#[tokio::test]
async fn a_message_that_arrives_while_its_key_is_redriven_comes_after_it_and_holds_up_no_other() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let settled = desk.settle(None, &notes("a", &[1])).await;
    desk.told(1, None);
    let gate = desk.stops();
    let letters = Letters::new(
        LISTENER,
        desk.pool.clone(),
        Shared(Arc::clone(&desk.clerk)),
        Deferral::default(),
    );
    let redriven = tokio::spawn(async move { letters.redrive(id(1)).await });
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let arrive = [note(2, Some("a")), note(3, Some("b")), note(4, Some("a"))];
    let arrives = || desk.settling(epoch(&settled), &arrive);
    let unsettled = arrives().await.unwrap().unwrap_err();
    assert!(matches!(unsettled.failure, Failure::Transient(_)));
    assert_eq!(unsettled.left, [0, 2], "only what is of that key");
    assert_eq!(desk.notes().await, [3]);
    // What leaves no room for others waits for its turn, which comes before the next redrive's.
    let waits = desk.settling_work(Work {
        full: true,
        ..work(epoch(&settled), &arrive)
    });
    desk.somebody_waits().await;
    gate.open.add_permits(1);
    assert_eq!(redriven.await.unwrap().unwrap(), Outcome::Applied);
    assert_eq!(waits.await.unwrap().unwrap().applied, 2);
    assert_eq!(
        desk.notes().await,
        [1, 3, 2, 4],
        "1 was written down before it stopped"
    );
    assert_eq!(desk.put_aside().await, []);
}

#[tokio::test]
async fn a_letter_that_is_redriven_while_its_key_is_parked_to_lets_that_one_follow() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let settled = desk.settle(None, &notes("a", &[1])).await;
    desk.told(1, None);
    // It parks 2 and stops in the handler with 3.
    let gate = desk.stops();
    let parks = desk.settling(epoch(&settled), &[note(2, Some("a")), note(3, Some("b"))]);
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let letters = Letters::new(
        LISTENER,
        desk.pool.clone(),
        Shared(Arc::clone(&desk.clerk)),
        Deferral::default(),
    );
    let redriven = tokio::spawn(async move { letters.redrive(id(1)).await });
    desk.somebody_waits().await;
    gate.open.add_permits(1);
    assert_eq!(parks.await.unwrap().unwrap().parked, 1);
    assert_eq!(redriven.await.unwrap().unwrap(), Outcome::Applied);
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [3, 1, 2]);
}

#[tokio::test]
async fn two_who_redrive_at_once_apply_it_once() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1, 2])).await;
    desk.told(1, None);
    let gate = desk.stops();
    let operator = || {
        let letters = Letters::new(
            LISTENER,
            desk.pool.clone(),
            Shared(Arc::clone(&desk.clerk)),
            Deferral::default(),
        );
        tokio::spawn(async move { letters.redrive(id(1)).await })
    };
    let first = operator();
    gate.reached.acquire().await.unwrap().forget();
    let second = operator();
    desk.somebody_waits().await;
    // The running listener does not wait for it.
    assert_eq!(
        desk.batcher
            .redrive(id(1), redrive::Patience::PassOver)
            .await
            .unwrap(),
        Outcome::Busy
    );
    desk.stops_no_more();
    gate.open.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), Outcome::Applied);
    assert_eq!(second.await.unwrap().unwrap(), Outcome::Gone);
    assert_eq!(desk.notes().await, [1]);
}

#[tokio::test]
async fn a_letter_that_somebody_takes_after_a_try_that_failed_is_told_to_be_gone() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Panics));
    desk.settle(None, &notes("a", &[1])).await;
    // A try that panics loses its connection: by the time that there is another one, the letter is taken.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let tried = "delete from dead_letter where exists (select from tried)";
                sqlx::query(tried).execute(&mut *connection).await?;
                let tries = "insert into tried default values";
                sqlx::query(tries).execute(connection).await?;
                Ok(())
            })
        });
    sqlx::raw_sql("create table tried ()")
        .execute(&desk.pool)
        .await
        .unwrap();
    let options = desk.pool.connect_options().as_ref().clone();
    let letters = Letters::new(
        LISTENER,
        pool.connect_lazy_with(options),
        Shared(Arc::clone(&desk.clerk)),
        Deferral::default(),
    );
    assert_eq!(letters.redrive(id(1)).await.unwrap(), Outcome::Gone);
}

#[tokio::test]
async fn a_worker_that_stalls_while_it_parks_is_waited_for_by_the_one_that_takes_over() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let gate = desk.stops();
    let stalls = desk.settling(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let takes_over = desk.settling(None, &notes("a", &[1, 2, 4]));
    desk.somebody_waits().await;
    gate.open.add_permits(1);
    assert_eq!(stalls.await.unwrap().unwrap().parked, 1);
    let settled = takes_over.await.unwrap().unwrap();
    assert_eq!((settled.fresh, settled.parked), (1, 1));
    let (poison, parked) = (Kind::Poison, Kind::Parked);
    assert_eq!(
        desk.put_aside().await,
        [(1, poison), (2, parked), (4, parked)]
    );
    assert_eq!(desk.notes().await, [3]);
}

#[tokio::test]
async fn a_worker_that_dies_while_it_parks_leaves_all_to_the_one_that_takes_over() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    let gate = desk.stops();
    let dies = desk.settling(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let takes_over = desk.settling(
        None,
        &[note(1, Some("a")), note(2, Some("a")), note(3, Some("b"))],
    );
    desk.somebody_waits().await;
    dies.abort();
    let settled = takes_over.await.unwrap().unwrap();
    assert_eq!((settled.fresh, settled.parked, settled.applied), (3, 1, 1));
    assert_eq!(
        desk.put_aside().await,
        [(1, Kind::Poison), (2, Kind::Parked)]
    );
    assert_eq!(desk.notes().await, [3]);
}

#[tokio::test]
async fn a_partition_that_is_lost_in_mid_split_is_finished_by_the_other() {
    let desk = Desk::new().await;
    desk.told(3, Some(Verdict::Violates));
    let batch: Vec<Message> = (1..=4).map(|event| note(event, Some("a"))).collect();
    let gate = desk.stops();
    // With one connection, which is taken from it between two parts.
    let only = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(desk.pool.connect_options().as_ref().clone())
        .await
        .unwrap();
    let loses = tokio::spawn({
        let handler = Shared(Arc::clone(&desk.clerk));
        let (breaker, deferral) = (Breaker::default(), Deferral::default());
        let batcher = Batcher::new(
            LISTENER.to_owned(),
            only.clone(),
            handler,
            breaker,
            deferral,
        );
        let work = work(None, &batch);
        async move { batcher.settle(&work).await }
    });
    // The whole batch has failed; its first half is stopped within its transaction.
    gate.reached.acquire().await.unwrap().forget();
    desk.stops_no_more();
    let mut between = Box::pin(only.acquire());
    assert!(futures::poll!(&mut between).is_pending());
    gate.open.add_permits(1);
    let between = between.await.unwrap();
    let other = desk.batcher.settle(&work(None, &batch)).await.unwrap();
    drop(between);
    let lost = loses.await.unwrap().unwrap();
    assert_eq!(lost.superseded.len(), 1);
    assert_eq!(
        (lost.fresh, lost.held.len()),
        (2, 0),
        "nothing is committed to Kafka"
    );
    assert_eq!((other.fresh, other.lettered, other.parked), (2, 2, 1));
    assert_eq!(desk.notes().await, [1, 2]);
    assert_eq!(
        desk.put_aside().await,
        [(3, Kind::Poison), (4, Kind::Parked)]
    );
}

#[tokio::test]
async fn two_listeners_do_not_hold_each_others_keys_back() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1])).await;
    let handler = Shared(Arc::clone(&desk.clerk));
    let other = Batcher::new(
        "other".to_owned(),
        desk.pool.clone(),
        handler,
        Breaker::default(),
        Deferral::default(),
    );
    let settled = other.settle(&work(None, &notes("a", &[2]))).await.unwrap();
    assert_eq!(settled.applied, 1);
    let elsewhere = Message {
        at: Position {
            topic: "elsewhere".to_owned(),
            ..note(3, None).at
        },
        ..note(3, Some("a"))
    };
    let settled = desk
        .batcher
        .settle(&Work {
            messages: vec![elsewhere],
            epochs: BTreeMap::new(),
            taken: Moment::now(),
            most: 500,
            full: false,
        })
        .await
        .unwrap();
    assert_eq!(settled.applied, 1, "a key is one of its topic");
}

#[tokio::test]
async fn a_burst_of_letters_opens_the_breaker_and_a_message_that_is_applied_closes_it() {
    let breaker = Breaker {
        letters: 3,
        within_s: 60,
        pause_s: 1,
    };
    let desk = Desk::with(breaker, Deferral::default()).await;
    for event in 1..=10 {
        desk.told(event, Some(Verdict::Violates));
    }
    let batch: Vec<Message> = (1..=12).map(|event| note(event, None)).collect();
    let work = work(None, &batch);
    let stopped = desk.batcher.settle(&work).await.unwrap_err().failure;
    assert!(matches!(stopped, Failure::Transient(why) if why.to_string().contains("breaker")));
    assert_eq!(
        desk.put_aside().await.len(),
        3,
        "the topic is not emptied into the table"
    );
    assert!(desk.batcher.open_until().is_some());
    assert_eq!(
        desk.batcher.progress.borrow().lettered,
        3,
        "though the batch has failed"
    );
    // One at a time, until one is applied: here the cause is gone.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    desk.batcher.settle(&work).await.unwrap_err();
    assert_eq!(desk.put_aside().await.len(), 4);
    for event in 1..=9 {
        desk.told(event, None);
    }
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let settled = desk.batcher.settle(&work).await.unwrap();
    assert_eq!((settled.applied, settled.lettered), (7, 1));
    assert_eq!(desk.batcher.open_until(), None);
}

#[tokio::test]
async fn what_is_only_deferred_does_not_open_the_breaker() {
    let breaker = Breaker {
        letters: 1,
        ..Breaker::default()
    };
    let desk = Desk::with(breaker, Deferral::default()).await;
    for event in 1..=5 {
        desk.told(event, Some(Verdict::Deferred));
    }
    let batch: Vec<Message> = (1..=6).map(|event| note(event, None)).collect();
    let settled = desk.settle(None, &batch).await;
    assert_eq!((settled.applied, settled.deferred), (1, 5));
    assert_eq!(desk.batcher.open_until(), None);
}

#[tokio::test]
async fn a_letter_that_is_given_up_is_recorded_and_what_waits_follows() {
    let desk = Desk::new().await;
    desk.told(1, Some(Verdict::Poison));
    desk.settle(None, &notes("a", &[1, 2])).await;
    assert!(desk.letters.drop(id(1), "it was a test").await.unwrap());
    assert!(!desk.letters.drop(id(1), "again").await.unwrap());
    desk.tries_what_is_due().await;
    assert_eq!(desk.notes().await, [2]);
    let (reason, by, value): (String, String, Vec<u8>) =
        sqlx::query_as("select reason, dropped_by::text, value from dropped_letter")
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
async fn keys_and_values_may_be_anything() {
    let desk = Desk::new().await;
    let huge = "k".repeat(100_000);
    let mut broken = note(1, Some(&huge));
    broken.value = Some(vec![0xff; 1000]);
    broken.headers.push(("trace".to_owned(), None));
    let empty = Message {
        key: Some(Vec::new()),
        ..note(3, None)
    };
    desk.told(3, Some(Verdict::Poison));
    let settled = desk
        .settle(None, &[broken.clone(), note(2, Some(&huge)), empty.clone()])
        .await;
    assert_eq!((settled.lettered, settled.parked), (3, 1));
    let letters = desk.letters.list(&Filter::default(), 10).await.unwrap();
    assert_eq!(letters[0].message, broken);
    assert_eq!(letters[2].message, empty);
    let redriven = desk.letters.redrive(letters[0].id).await.unwrap();
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
        let letters = desk.letters.list(&filter, 10).await.unwrap();
        letters
            .iter()
            .map(|letter| letter.id.as_u128())
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
    let second = desk.letters.find(id(2)).await.unwrap().unwrap();
    assert!(!second.first);
}
