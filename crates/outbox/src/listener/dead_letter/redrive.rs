//! Trying dead letters again.

use std::io;

use serde::Serialize;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransaction;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use uuid::Uuid;

use super::Kind;
use super::rows::{self, DeadLetter};
use crate::append;
use crate::listener::batch::{
    BEGIN, Batcher, Disposition, TRANSACTION_TIMEOUT, disposition, finish,
};
use crate::listener::bisect::Stop;
use crate::listener::failpoint::Step;
use crate::listener::{Failure, Handler, Received, ledger};

/// What has become of a dead letter that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is applied and gone.
    Applied,
    /// It has failed again, and stays with its new error.
    Failed {
        /// Why it stays.
        kind: Kind,
        /// What went wrong.
        error: String,
        /// How often it was tried by now.
        attempts: u32,
    },
    /// It is not there: somebody was faster, or it never was.
    Gone,
    /// An earlier dead letter of its key is to be tried first.
    Behind,
    /// Somebody else is just trying it.
    Busy,
}

/// Whether to wait for a dead letter that somebody else is just trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::listener) enum Patience {
    Wait,
    SkipLocked,
}

impl<H: Handler> Batcher<H> {
    /// Tries one dead letter; see [`DeadLetters::redrive`](super::DeadLetters::redrive).
    pub(in crate::listener) async fn redrive(
        &self,
        id: Uuid,
        patience: Patience,
    ) -> Result<Outcome, Failure> {
        let mut connection = self.connection().await?;
        let mut dead_letter = None;
        let (outcome, usable) = self
            .guarded(self.try_once(&mut connection, id, patience, &mut dead_letter))
            .await;
        // Where it took too long, the server may have ended the session.
        let usable = usable && !matches!(outcome, Err(Stop::TooSlow(_)));
        if !usable {
            connection.close_on_drop();
        }
        let outcome = outcome.map_err(|stop| match stop {
            // Tried like this for ever, it would keep its key locked most of the time.
            Stop::TooSlow(error) if dead_letter.is_some() => Failure::Unknown(error).into(),
            stop => stop,
        });
        match (outcome, dead_letter) {
            (Ok(outcome), _) => Ok(outcome),
            (Err(Stop::Failure(failure @ Failure::Transient(_))), _) => Err(failure),
            (Err(Stop::Failure(failure)), Some(dead_letter)) => {
                if !usable {
                    // It may be the only one that there can be.
                    std::mem::drop(connection);
                    connection = self.connection().await?;
                }
                self.stays(connection, &dead_letter, failure).await
            }
            (Err(Stop::Failure(failure)), None) => Err(Failure::Transient(failure.into())),
            (Err(Stop::TooSlow(error)), _) => Err(Failure::Transient(error)),
            (Err(Stop::TooManyDeadLetters | Stop::Busy(_)), _) => {
                Err(Failure::Transient("a try puts nothing aside".into()))
            }
        }
    }

    /// The dead letter is told as soon as it is locked, also where the handler panics.
    async fn try_once(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        patience: Patience,
        told: &mut Option<DeadLetter>,
    ) -> Result<Outcome, Stop> {
        let mut tx = connection.begin_with(BEGIN).await?;
        let dead_letter = match lock(&mut tx, &self.listener, id, patience).await? {
            Ok(dead_letter) => dead_letter,
            Err(outcome) => return Ok(outcome),
        };
        if !dead_letter.first {
            if dead_letter.retry_at.is_some() {
                park(&mut tx, &self.listener, dead_letter.id).await?;
                finish(tx).await?;
            }
            return Ok(Outcome::Behind);
        }
        *told = Some(dead_letter.clone());
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
        remove(&mut tx, &self.listener, &dead_letter).await?;
        append(&mut tx, &outgoing).await?;
        Step::DeadLetterRemoved.reached();
        finish(tx).await?;
        Ok(Outcome::Applied)
    }

    /// A dead letter that has failed again stays with its new error, unless somebody else has applied it or given it up since. On the
    /// connection of the try, which is rolled back first.
    async fn stays(
        &self,
        mut connection: PoolConnection<Postgres>,
        dead_letter: &DeadLetter,
        failure: Failure,
    ) -> Result<Outcome, Failure> {
        let attempts = dead_letter.attempts + 1;
        let (kind, error) = match failure {
            Failure::Refused(named) => {
                match named
                    .into_iter()
                    .find(|refusal| refusal.id == dead_letter.id)
                {
                    Some(refusal) => (refusal.kind.into(), refusal.source.to_string()),
                    None => (
                        Kind::Unknown,
                        "the handler refuses another event than it was given".to_owned(),
                    ),
                }
            }
            Failure::Poison(error) => (Kind::Poison, error.to_string()),
            Failure::Unknown(error) | Failure::Transient(error) => {
                (Kind::Unknown, error.to_string())
            }
        };
        let error = ledger::text(&error);
        let wait = match kind {
            Kind::Deferred | Kind::Unknown => self.retry.next(attempts),
            Kind::Poison | Kind::Parked => None,
        };
        let noted = async {
            let mut tx = connection.begin_with(BEGIN).await?;
            let now = match lock(&mut tx, &self.listener, dead_letter.id, Patience::Wait).await? {
                Ok(now) => now,
                Err(outcome) => return Ok(Some(outcome)),
            };
            // Somebody may have tried it since; then that one's word stands.
            if now.attempts == dead_letter.attempts {
                sqlx::query(
                    "update dead_letter
                     set kind = $3, error = $4, attempts = attempts + 1, retry_at = now() + make_interval(secs => $5)
                     where listener = $1 and id = $2",
                )
                .bind(&self.listener)
                .bind(dead_letter.id)
                .bind(kind.as_str())
                .bind(&error)
                .bind(wait.map(|wait| wait.as_secs_f64()))
                .execute(&mut *tx)
                .await?;
            }
            Step::DeadLetterStays.reached();
            tx.commit().await?;
            Ok(None)
        };
        let noted = timeout(TRANSACTION_TIMEOUT, noted).await;
        if let Some(outcome) = in_time(connection, noted)? {
            return Ok(outcome);
        }
        if wait.is_none() {
            tracing::warn!(
                listener = self.listener, id = %dead_letter.id, kind = kind.as_str(), error, attempts,
                "a dead letter is not tried any more by itself; redrive it when its cause is gone, or drop it"
            );
        }
        Ok(Outcome::Failed {
            kind,
            error,
            attempts,
        })
    }
}

/// What the database has answered, if it has. The server's own time-outs do not help against a connection that died without
/// a word.
pub(super) fn in_time<T>(
    mut connection: PoolConnection<Postgres>,
    answer: Result<Result<T, sqlx::Error>, Elapsed>,
) -> Result<T, sqlx::Error> {
    answer.unwrap_or_else(|_| {
        connection.close_on_drop();
        let why = format!("the database has not answered within {TRANSACTION_TIMEOUT:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
    })
}

/// Locks a dead letter's key, then the dead letter: in this order everybody does, whoever parks behind it too.
async fn lock(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    id: Uuid,
    patience: Patience,
) -> Result<Result<DeadLetter, Outcome>, sqlx::Error> {
    let of: Option<(String, Option<Vec<u8>>)> =
        sqlx::query_as("select topic, key from dead_letter where listener = $1 and id = $2")
            .bind(listener)
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
    let Some((topic, key)) = of else {
        return Ok(Err(Outcome::Gone));
    };
    if let Some(key) = key
        && !hold(tx, listener, &topic, &key, patience).await?
    {
        return Ok(Err(Outcome::Busy));
    }
    let patient = patience == Patience::Wait;
    let dead_letter = rows::lock(tx, listener, id, patient).await?;
    Ok(dead_letter.ok_or(if patient {
        Outcome::Gone
    } else {
        Outcome::Busy
    }))
}

/// Locks a key, and says whether it could. With a dead letter there is its row; where somebody has removed it by hand, it is made
/// again, so that the dead letter can be tried and what comes later waits.
async fn hold(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    topic: &str,
    key: &[u8],
    patience: Patience,
) -> Result<bool, sqlx::Error> {
    if patience == Patience::Wait {
        ledger::block(tx, listener, &[(topic, key)].into()).await?;
        return Ok(true);
    }
    // One that is there and locked is not waited for, so it must not come to a conflict; one that somebody else is just making
    // is.
    let held: Option<bool> = sqlx::query_scalar(
        "with held as (
             select from blocked_key where listener = $1 and topic = $2 and key_digest = sha256($3) for update skip locked
         ), made as (
             insert into blocked_key (listener, topic, key_digest)
             select $1, $2, sha256($3)
             where not exists (select from blocked_key where listener = $1 and topic = $2 and key_digest = sha256($3))
             on conflict do nothing
             returning true
         )
         select true from held union all select true from made",
    )
    .bind(listener)
    .bind(topic)
    .bind(key)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(held.is_some())
}

/// Has a dead letter that is locked wait behind the first of its key, where two partitions dead-lettered a first one of it at once: it is
/// not due, or each look would find it, until it is the first.
async fn park(tx: &mut PgTransaction<'_>, listener: &str, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update dead_letter set kind = 'parked', retry_at = null where listener = $1 and id = $2",
    )
    .bind(listener)
    .bind(id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a dead letter that is locked. What waits behind it is due, or its key is free.
async fn remove(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    dead_letter: &DeadLetter,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from dead_letter where listener = $1 and id = $2")
        .bind(listener)
        .bind(dead_letter.id)
        .execute(&mut **tx)
        .await?;
    let Some(key) = &dead_letter.message.key else {
        return Ok(());
    };
    let next: Option<(Uuid,)> = sqlx::query_as(
        "select id from dead_letter where listener = $1 and topic = $2 and key_digest = sha256($3) order by seq limit 1",
    )
    .bind(listener)
    .bind(&dead_letter.message.at.topic)
    .bind(key)
    .fetch_optional(&mut **tx)
    .await?;
    match next {
        Some((id,)) => sqlx::query(
            "update dead_letter set retry_at = now()
             where listener = $1 and id = $2 and kind = 'parked' and retry_at is null",
        )
        .bind(listener)
        .bind(id)
        .execute(&mut **tx)
        .await?,
        None => sqlx::query("delete from blocked_key where listener = $1 and topic = $2 and key_digest = sha256($3)")
            .bind(listener)
            .bind(&dead_letter.message.at.topic)
            .bind(key)
            .execute(&mut **tx)
            .await?,
    };
    Ok(())
}

/// Gives a dead letter up; see [`DeadLetters::drop`](super::DeadLetters::drop).
pub(super) async fn discard(
    pool: &PgPool,
    listener: &str,
    id: Uuid,
    reason: &str,
) -> Result<bool, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let dropped = discard_in_transaction(&mut connection, listener, id, reason);
    let dropped = timeout(TRANSACTION_TIMEOUT, dropped).await;
    in_time(connection, dropped)
}

async fn discard_in_transaction(
    connection: &mut PgConnection,
    listener: &str,
    id: Uuid,
    reason: &str,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin_with(BEGIN).await?;
    let Ok(dead_letter) = lock(&mut tx, listener, id, Patience::Wait).await? else {
        return Ok(false);
    };
    sqlx::query(
        r#"insert into discarded_dead_letter
             (listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value,
              attempts, dead_lettered_at, reason)
           select listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value,
                  attempts, dead_lettered_at, $3
           from dead_letter where listener = $1 and id = $2"#,
    )
    .bind(listener)
    .bind(id)
    .bind(ledger::text(reason))
    .execute(&mut *tx)
    .await?;
    remove(&mut tx, listener, &dead_letter).await?;
    tx.commit().await?;
    tracing::warn!(listener, %id, reason, "a dead letter is given up");
    Ok(true)
}
