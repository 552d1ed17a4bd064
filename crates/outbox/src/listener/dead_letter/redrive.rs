//! One attempt of a dead letter: by an operator, or by the listener itself.
//!
//! An attempt locks the dead letter's key and then the dead letter, runs the handler with this one event, deletes the dead letter
//! and commits. The inbox is not asked: it has known the event since it was dead-lettered. So two who attempt it at the same time
//! apply it once, and a crash at any step leaves either the dead letter or its effects.
//!
//! If the attempt fails, its transaction rolls back. A second one records the failure, and checks under the same
//! locks that no other process has attempted, applied or discarded the dead letter in between. It runs on the same connection if
//! that can be reused: waiting for another one could lose the failure to an exhausted pool.

use serde::Serialize;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

use super::record::{DeadLetter, error_text};
use super::store::{self, LockMode, NotLocked};
use crate::append::append;
use crate::deadline;
use crate::listener::dead_letter_kind::Kind;
use crate::listener::decode::{Disposition, disposition};
use crate::listener::failpoint::Step;
use crate::listener::failure::Failure;
use crate::listener::handler::{Handler, Received};
use crate::listener::stop::Aborted;
use crate::listener::transaction::{TIMEOUT, Transactions, begin, commit};

/// What an attempt of a dead letter has come to.
///
/// ```
/// use outbox::listener::dead_letter::Outcome;
///
/// /// Whether an operator has to look at it again.
/// fn remains(outcome: &Outcome) -> bool {
///     matches!(outcome, Outcome::Failed { .. } | Outcome::Parked | Outcome::Busy)
/// }
/// assert!(!remains(&Outcome::Applied));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is applied, and no longer a dead letter.
    Applied,
    /// It failed again, and stays with its new error.
    Failed {
        /// Why it stays.
        kind: Kind,
        /// The error.
        error: String,
        /// How many attempts there were by now.
        attempts: u32,
    },
    /// There is no such dead letter: another process applied or discarded it, or it never existed.
    Gone,
    /// An earlier dead letter of its key must be redriven first.
    Parked,
    /// Another process has locked it or its key, or has just retried it.
    Busy,
}

impl From<NotLocked> for Outcome {
    fn from(not_locked: NotLocked) -> Self {
        match not_locked {
            NotLocked::Gone => Self::Gone,
            NotLocked::Busy => Self::Busy,
        }
    }
}

/// What an attempt has come to before its failure is recorded.
enum Attempt {
    Ended(Outcome),
    /// With the connection of the attempt, if it can be reused.
    Failed(Box<DeadLetter>, Failure, Option<PoolConnection<Postgres>>),
}

impl<H: Handler> Transactions<H> {
    /// Attempts a dead letter; see [`DeadLetters::redrive`](super::DeadLetters::redrive).
    pub(in crate::listener) async fn redrive(
        &self,
        id: Uuid,
        mode: LockMode,
    ) -> Result<Outcome, Failure> {
        match self.attempt(id, mode).await? {
            Attempt::Ended(outcome) => Ok(outcome),
            Attempt::Failed(dead_letter, failure, connection) => {
                self.record_failure(&dead_letter, failure, connection).await
            }
        }
    }

    /// Runs the attempt, and sorts its failures: a transient one is no fault of the dead letter, and is the error; any other is
    /// to be recorded.
    async fn attempt(&self, id: Uuid, mode: LockMode) -> Result<Attempt, Failure> {
        // Known as soon as it is locked, also if the handler panics.
        let mut locked = None;
        let connection = self.connection().await?;
        let apply = async |connection: &mut PgConnection| {
            self.apply_dead_letter(connection, id, mode, &mut locked)
                .await
        };
        let (outcome, connection) = self.run(connection, apply).await;
        let aborted = match outcome {
            Ok(outcome) => return Ok(Attempt::Ended(outcome)),
            Err(aborted) => aborted,
        };
        match (aborted, locked) {
            (Aborted::Failed(failure @ Failure::Transient(_)), _) => Err(failure),
            (Aborted::Failed(failure), Some(dead_letter)) => {
                Ok(Attempt::Failed(dead_letter, failure, connection))
            }
            // Retried as a transient failure for ever, it would keep its key locked most of the time.
            (Aborted::TooSlow(error), Some(dead_letter)) => Ok(Attempt::Failed(
                dead_letter,
                Failure::Unknown(error),
                connection,
            )),
            (Aborted::Failed(failure), None) => Err(Failure::Transient(failure.into())),
            (Aborted::TooSlow(error), None) => Err(Failure::Transient(error.into())),
        }
    }

    /// The attempt's transaction. `locked` is set as soon as the dead letter is locked.
    async fn apply_dead_letter(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        mode: LockMode,
        locked: &mut Option<Box<DeadLetter>>,
    ) -> Result<Outcome, Aborted> {
        let mut tx = begin(connection).await?;
        let dead_letter = match store::lock(&mut tx, &self.listener, id, mode).await? {
            Ok(dead_letter) => dead_letter,
            Err(not_locked) => return Ok(not_locked.into()),
        };
        if !dead_letter.first {
            if dead_letter.retry_at.is_some() {
                store::park(&mut tx, &self.listener, dead_letter.id).await?;
                commit(tx).await?;
            }
            return Ok(Outcome::Parked);
        }
        let dead_letter = locked.insert(Box::new(dead_letter));
        Step::DeadLetterLocked.reached();
        let outgoing = match disposition::<H>(&dead_letter.message).1 {
            Disposition::Ignore => Vec::new(),
            Disposition::DeadLetter(_, error) => return Err(Failure::Poison(error.into()).into()),
            Disposition::Apply(received) => {
                let received = Received {
                    id: dead_letter.id,
                    ..received
                };
                self.handler.handle(&mut tx, &[received]).await?
            }
        };
        store::remove(&mut tx, &self.listener, dead_letter).await?;
        append(&mut tx, &outgoing).await?;
        Step::DeadLetterRemoved.reached();
        commit(tx).await?;
        Ok(Outcome::Applied)
    }

    /// Records a failed attempt, unless another process has applied or discarded the dead letter since.
    async fn record_failure(
        &self,
        dead_letter: &DeadLetter,
        failure: Failure,
        connection: Option<PoolConnection<Postgres>>,
    ) -> Result<Outcome, Failure> {
        let attempts = dead_letter.attempts + 1;
        let (kind, error) = classify(dead_letter.id, failure);
        let error = error_text(&error);
        let retry_in = (kind.is_retried())
            .then(|| self.retry.next(attempts))
            .flatten();
        let record = async |connection: &mut PgConnection| {
            let mut tx = begin(connection).await?;
            let now =
                match store::lock(&mut tx, &self.listener, dead_letter.id, LockMode::Wait).await? {
                    Ok(now) => now,
                    Err(not_locked) => return Ok(Some(not_locked.into())),
                };
            // If another process has attempted it since, what that one recorded stands.
            if now.attempts == dead_letter.attempts {
                store::record_attempt(&mut tx, &self.listener, now.id, kind, &error, retry_in)
                    .await?;
            }
            Step::DeadLetterStays.reached();
            tx.commit().await?;
            Ok::<_, sqlx::Error>(None)
        };
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connection().await?,
        };
        if let Some(outcome) = deadline::within(TIMEOUT, &mut connection, record).await? {
            return Ok(outcome);
        }
        if retry_in.is_none() {
            tracing::warn!(
                listener = self.listener, id = %dead_letter.id, kind = kind.as_str(), error, attempts,
                "the listener does not retry this dead letter; fix its cause and run `dead-letters redrive`, or run \
                 `dead-letters discard`"
            );
        }
        Ok(Outcome::Failed {
            kind,
            error,
            attempts,
        })
    }
}

/// The kind and the error of a dead letter that failed again.
fn classify(id: Uuid, failure: Failure) -> (Kind, String) {
    match failure {
        Failure::Refused(refusals) => match refusals.into_iter().find(|refusal| refusal.id == id) {
            Some(refusal) => (refusal.kind.into(), refusal.source.to_string()),
            None => (
                Kind::Unknown,
                "the handler refused an event that is not in its batch".to_owned(),
            ),
        },
        Failure::Poison(error) => (Kind::Poison, error.to_string()),
        Failure::Unknown(error) => (Kind::Unknown, error.to_string()),
        Failure::Transient(cause) => (Kind::Unknown, cause.to_string()),
    }
}
