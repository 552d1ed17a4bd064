//! One batch, one transaction.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransaction;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::sync::watch;
use uuid::Uuid;

use super::RetryPolicy;
use super::bisect::{Bisection, Stop, Unsettled};
use super::breaker::{Breaker, BreakerPolicy, Transition};
use super::clock::Moment;
use super::dead_letter::Kind;
use super::failpoint::Step;
use super::failure::BreakerOpen;
use super::ledger::{self, Blocked, Key, NewDeadLetter, Partition};
use super::{Failure, Handler, Progress, Received, progress};
use crate::append;
use crate::message::Message;

/// What is to be settled, and what is known of the partitions that it comes from.
#[derive(Clone)]
pub(super) struct Work {
    /// Messages in the order in which they arrived.
    pub(super) messages: Vec<Message>,
    /// Every partition among them, with the epoch under which it is held; none yet: to be claimed.
    pub(super) epochs: BTreeMap<Partition, Option<i64>>,
    /// When it was taken in flight.
    pub(super) taken: Moment,
    /// The most messages in one transaction.
    pub(super) most: usize,
    /// What has failed before leaves no room for further messages.
    pub(super) full: bool,
}

/// What a committed batch has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Partitions held, of which something was settled, by their epoch.
    pub(super) held: BTreeMap<Partition, i64>,
    /// Partitions that another consumer has claimed since: nothing of them was written.
    pub(super) superseded: BTreeSet<Partition>,
    /// Events that were new.
    pub(super) fresh: usize,
    /// Of these, the ones that the handler has applied.
    pub(super) applied: usize,
    /// Of these, the ones dead-lettered.
    pub(super) dead_lettered: usize,
    /// Of these, the ones dead-lettered since an earlier dead letter of their key waits.
    pub(super) parked: usize,
    /// Of these, the ones dead-lettered since what they refer to is not there yet.
    pub(super) deferred: usize,
    /// Of these, the ones that the circuit breaker counts: neither deferred, nor behind an earlier dead letter of their key, which
    /// keeps them from being applied whatever they are.
    pub(super) faulty: usize,
}

impl Settled {
    /// Adds what a later part of the same batch has come to.
    pub(super) fn add(&mut self, part: Self) {
        self.held.extend(part.held);
        for partition in part.superseded {
            self.held.remove(&partition);
            self.superseded.insert(partition);
        }
        self.fresh += part.fresh;
        self.applied += part.applied;
        self.dead_lettered += part.dead_lettered;
        self.parked += part.parked;
        self.deferred += part.deferred;
        self.faulty += part.faulty;
    }
}

/// How long a transaction may take, the handler's work included.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// At any higher level a statement does not see what was committed while it waited for a lock, and it is by locks that
/// workers and operators learn of each other.
pub(super) const BEGIN: &str = "begin isolation level read committed";

/// Settles batches with one handler in one database.
pub(super) struct Batcher<H> {
    pub(super) listener: String,
    pub(super) pool: PgPool,
    pub(super) handler: H,
    pub(super) retry: RetryPolicy,
    circuit: Mutex<Breaker>,
    pub(super) progress: watch::Sender<Progress>,
}

/// What is to become of a message.
pub(super) enum Disposition<E> {
    Apply(Received<E>),
    Ignore,
    DeadLetter(Kind, String),
}

impl<H: Handler> Batcher<H> {
    pub(super) fn new(
        listener: String,
        pool: PgPool,
        handler: H,
        breaker: BreakerPolicy,
        retry: RetryPolicy,
    ) -> Self {
        let circuit = Mutex::new(Breaker::new(breaker));
        let progress = watch::Sender::new(Progress::new(&listener));
        Self {
            listener,
            pool,
            handler,
            retry,
            circuit,
            progress,
        }
    }

    fn circuit(&self) -> MutexGuard<'_, Breaker> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the circuit breaker lets everything pass.
    pub(super) fn is_closed(&self) -> bool {
        self.circuit().is_closed()
    }

    /// Until when the circuit breaker lets nothing be tried.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.circuit().open_until()
    }

    /// Settles `work`, in as many parts as it takes to find what fails.
    pub(super) async fn settle(&self, work: &Work) -> Result<Settled, Box<Unsettled>> {
        let mut bisection = Bisection::new(work, identity);
        let outcome = self.settle_parts(work, &mut bisection).await;
        if let Err(Failure::Unknown(_)) = outcome {
            let turn = self.circuit().record_failure(Instant::now());
            self.turned(turn);
        }
        bisection.ended(outcome)
    }

    async fn settle_parts(
        &self,
        work: &Work,
        bisection: &mut Bisection<'_>,
    ) -> Result<(), Failure> {
        while let Some(part) = bisection.next()? {
            let began = Instant::now();
            if !part.wait.is_zero() {
                tokio::time::sleep(part.wait).await;
            }
            let messages: Vec<&Message> =
                part.messages.iter().map(|m| &work.messages[*m]).collect();
            let outcome = self.attempt(&messages, bisection).await;
            bisection.spent += began.elapsed();
            match outcome {
                Ok(settled) => {
                    let (applied, faulty) = (settled.applied, settled.faulty);
                    let turn = self.circuit().record(applied, faulty, Instant::now());
                    self.turned(turn);
                    // Part by part: a batch that fails in the end has come to this all the same.
                    self.progress.send_modify(|progress| {
                        progress.settle(settled.fresh, settled.dead_lettered)
                    });
                    bisection.settled(&part, settled);
                }
                Err(stop) => {
                    Step::PartFailed.reached();
                    if let Stop::TooSlow(error) = &stop {
                        tracing::warn!(
                            listener = self.listener,
                            error,
                            messages = messages.len(),
                            "a transaction takes too long"
                        );
                    }
                    bisection.failed(part, stop)?;
                }
            }
        }
        Ok(())
    }

    fn turned(&self, turn: Option<Transition>) {
        match turn {
            None => {}
            Some(Transition::Opened(pause)) => tracing::error!(
                listener = self.listener,
                ?pause,
                "the circuit breaker is open: too many messages were dead-lettered; see the dead letters' errors. After the \
                 pause one message is tried"
            ),
            Some(Transition::Closed) => tracing::info!(
                listener = self.listener,
                "the circuit breaker is closed: a message was applied"
            ),
        }
    }

    async fn attempt(
        &self,
        messages: &[&Message],
        bisection: &Bisection<'_>,
    ) -> Result<Settled, Stop> {
        let (room, probes) = {
            let mut circuit = self.circuit();
            (circuit.permits(Instant::now()), circuit.is_half_open())
        };
        if room == 0 {
            return Err(Failure::Transient(BreakerOpen.into()).into());
        }
        if probes && messages.len() > 1 {
            return Err(Stop::TooManyDeadLetters);
        }
        let mut connection = self.connection().await?;
        let work = self.transact(&mut connection, messages, bisection, room);
        let (outcome, usable) = self.guarded(work).await;
        if !usable {
            // Nobody knows in which state this left the connection.
            connection.close_on_drop();
        }
        outcome
    }

    /// A connection. Whatever the server answers where there is none, no message is to blame.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, Failure> {
        let connection = self.pool.acquire().await;
        connection.map_err(|error| Failure::Transient(error.into()))
    }

    /// Runs a transaction within its time, a panic of the handler caught; says whether the connection can be used again.
    pub(super) async fn guarded<T>(
        &self,
        transaction: impl Future<Output = Result<T, Stop>>,
    ) -> (Result<T, Stop>, bool) {
        let began = Instant::now();
        let in_words = |stop: Stop| (stop.spoils_connection(), stop.in_words());
        let transaction =
            AssertUnwindSafe(async { transaction.await.map_err(in_words) }).catch_unwind();
        let stop = match tokio::time::timeout(TRANSACTION_TIMEOUT, transaction).await {
            Ok(Ok(outcome)) => {
                let name = "outbox_listener_transaction_seconds";
                progress::took(name, &self.listener, began.elapsed());
                return match outcome {
                    Ok(done) => (Ok(done), true),
                    Err((spoilt, stop)) => (Err(stop), !spoilt),
                };
            }
            Ok(Err(panic)) => {
                let why = format!("the handler panicked: {}", panic_text(&*panic));
                Failure::Poison(why.into()).into()
            }
            // The server's own time-outs do not help against a connection that died without a word.
            Err(_) => Stop::TooSlow(
                format!("no end of the transaction within {TRANSACTION_TIMEOUT:?}").into(),
            ),
        };
        (Err(stop), false)
    }

    /// Locks the epochs of the messages' partitions, and says which are held.
    async fn hold(
        &self,
        tx: &mut PgTransaction<'_>,
        messages: &[&Message],
        bisection: &Bisection<'_>,
    ) -> Result<Settled, sqlx::Error> {
        let partitions: BTreeSet<Partition> =
            messages.iter().map(|message| message.partition()).collect();
        let known: BTreeMap<Partition, Option<i64>> = partitions
            .into_iter()
            .map(|partition| {
                let epoch = bisection.epochs.get(&partition).copied().flatten();
                (partition, epoch)
            })
            .collect();
        let locked = ledger::lock_epochs(tx, &self.listener, &known).await?;
        let mut settled = Settled::default();
        // Looked at under the locks: from here on, whoever stands still is ended by the server.
        if bisection.taken.is_long_ago() {
            settled.superseded.extend(known.into_keys());
            return Ok(settled);
        }
        for (partition, known) in known {
            match locked.get(&partition) {
                Some(epoch) if known.is_none_or(|known| known == *epoch) => {
                    settled.held.insert(partition, *epoch);
                }
                _ => {
                    settled.superseded.insert(partition);
                }
            }
        }
        Ok(settled)
    }

    async fn transact(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
        bisection: &Bisection<'_>,
        room: usize,
    ) -> Result<Settled, Stop> {
        let mut tx = connection.begin_with(BEGIN).await?;
        Step::Begun.reached();
        let mut settled = self.hold(&mut tx, messages, bisection).await?;
        Step::Held.reached();
        let mut dispositions = Vec::with_capacity(messages.len());
        for &message in messages {
            if settled.held.contains_key(&message.partition()) {
                let (id, disposition) = disposition::<H>(message);
                let disposition = match bisection.refused.get(&id) {
                    Some((kind, error)) => Disposition::DeadLetter(*kind, error.clone()),
                    None => disposition,
                };
                dispositions.push((message, id, disposition));
            }
        }

        let ids: Vec<Uuid> = dispositions.iter().map(|(_, id, _)| *id).collect();
        let mut unseen = ledger::settle(&mut tx, &self.listener, &ids).await?;
        settled.fresh = unseen.len();
        Step::Settled.reached();
        let keys: BTreeSet<Key> = dispositions
            .iter()
            .filter(|(_, id, _)| unseen.contains(id))
            .filter_map(|(message, _, _)| message.topic_key())
            .collect();
        let Blocked {
            held: mut blocked,
            busy,
        } = ledger::lock_blocked(&mut tx, &self.listener, &keys, bisection.patient).await?;
        if !busy.is_empty() {
            return Err(Stop::Busy(busy));
        }

        let (mut batch, mut dead_letters) = (Vec::with_capacity(unseen.len()), Vec::new());
        for (message, id, disposition) in dispositions {
            // Removed as it is met: a duplicate within the batch is the second to come.
            if !unseen.remove(&id) {
                continue;
            }
            let key = message.topic_key();
            let waits = key.as_ref().is_some_and(|key| blocked.contains(key));
            let (kind, error) = match disposition {
                Disposition::Ignore => continue,
                Disposition::DeadLetter(Kind::Poison, error) => (Kind::Poison, error),
                _ if waits => (
                    Kind::Parked,
                    "an earlier dead letter of its key waits".to_owned(),
                ),
                Disposition::DeadLetter(kind, error) => (kind, error),
                Disposition::Apply(received) => {
                    batch.push(received);
                    continue;
                }
            };
            settled.parked += usize::from(kind == Kind::Parked);
            settled.deferred += usize::from(kind == Kind::Deferred);
            settled.faulty += usize::from(kind != Kind::Deferred && !waits);
            dead_letters.push(NewDeadLetter {
                id,
                kind,
                error: ledger::text(&error),
                retry_in: matches!(kind, Kind::Deferred | Kind::Unknown)
                    .then(|| self.retry.first()),
                message,
            });
            blocked.extend(key);
        }
        settled.dead_lettered = dead_letters.len();
        settled.applied = batch.len();
        if settled.faulty > room {
            return Err(Stop::TooManyDeadLetters);
        }

        let outgoing = if batch.is_empty() {
            Vec::new()
        } else {
            let began = Instant::now();
            let outgoing = self.handler.handle(&mut tx, &batch).await?;
            progress::took(
                "outbox_listener_handler_seconds",
                &self.listener,
                began.elapsed(),
            );
            outgoing
        };
        Step::Handled.reached();
        ledger::move_to_dead_letter(&mut tx, &self.listener, &dead_letters).await?;
        if !dead_letters.is_empty() {
            Step::DeadLettered.reached();
        }
        append(&mut tx, &outgoing).await?;
        Step::Appended.reached();
        finish(tx).await?;
        Step::Committed.reached();
        for dead_letter in dead_letters
            .iter()
            .filter(|dead_letter| dead_letter.kind != Kind::Parked)
        {
            tracing::warn!(
                listener = self.listener, id = %dead_letter.id, kind = dead_letter.kind.as_str(), error = dead_letter.error,
                topic = dead_letter.message.at.topic, partition = dead_letter.message.at.partition,
                offset = dead_letter.message.at.offset, "message is dead-lettered in dead_letter"
            );
        }
        Ok(settled)
    }
}

/// Commits. A handler that swallowed an error of the database has left the transaction aborted; its COMMIT would roll back
/// and say nothing.
pub(super) async fn finish(mut tx: PgTransaction<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("select").execute(&mut *tx).await?;
    tx.commit().await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

/// By which the inbox knows a message.
fn identity(message: &Message) -> Uuid {
    message.open().map_or_else(|(id, _)| id, |opened| opened.id)
}

/// A message's identity, and what is to become of it.
pub(super) fn disposition<H: Handler>(message: &Message) -> (Uuid, Disposition<H::Event>) {
    let opened = match message.open() {
        Ok(opened) => opened,
        Err((id, why)) => return (id, Disposition::DeadLetter(Kind::Poison, why.to_string())),
    };
    let id = opened.id;
    if H::IGNORED_EVENT_TYPES.contains(&opened.event_type.as_str()) {
        return (id, Disposition::Ignore);
    }
    // The event's own code may run here.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        opened.decode().map_err(|why| why.to_string())
    }));
    let decoded = decoded.unwrap_or_else(|panic| {
        Err(format!(
            "reading the event panicked: {}",
            panic_text(&*panic)
        ))
    });
    let disposition = match decoded {
        Ok(event) => Disposition::Apply(Received {
            id,
            key: message.key.clone(),
            at: message.at.clone(),
            event,
        }),
        Err(why) => Disposition::DeadLetter(Kind::Poison, why),
    };
    (id, disposition)
}

#[cfg(test)]
mod tests;
