//! A listener's transactions: begin, time-out, panic guard, commit.
//!
//! [`Transactions::run`] is the one way in which the listener and a redrive run a transaction that calls the handler. A handler
//! is foreign code: it may panic, never return, swallow an error of the database, or return an error whose `Display` panics.
//! Unless it blocks its thread, the transaction ends within [`TIMEOUT`]; its outcome is typed, and a connection whose state is
//! unknown does not return to the pool.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransaction;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};

use super::failure::Failure;
use super::retry::RetryPolicy;
use super::stop::Aborted;
use super::{metrics, panic};
use crate::deadline;

/// How long a transaction may take, the handler's work included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// At a higher isolation level a statement does not see what was committed while it waited for a lock, and locks are how workers
/// and operators learn of each other.
const BEGIN: &str = "begin isolation level read committed";

/// What every transaction of a listener needs: its name, its database, its handler.
pub(super) struct Transactions<H> {
    pub(super) listener: String,
    pub(super) pool: PgPool,
    pub(super) handler: H,
    pub(super) retry: RetryPolicy,
}

impl<H> Transactions<H> {
    /// A pooled connection. Its absence is no message's fault, whatever the server answers.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, Failure> {
        let connection = self.pool.acquire().await;
        connection.map_err(Failure::transient)
    }

    /// Runs a transaction on `connection` within [`TIMEOUT`], and catches a panic of the handler. Returns the connection too,
    /// unless it must be discarded.
    pub(super) async fn run<T>(
        &self,
        mut connection: PoolConnection<Postgres>,
        transaction: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Aborted>,
    ) -> (Result<T, Aborted>, Option<PoolConnection<Postgres>>) {
        let began = Instant::now();
        let guarded = async |connection: &mut PgConnection| {
            let transaction =
                AssertUnwindSafe(async { transaction(connection).await.map_err(in_words) });
            Ok::<_, sqlx::Error>(transaction.catch_unwind().await)
        };
        let ended = deadline::within(TIMEOUT, &mut connection, guarded).await;
        let (aborted, discards) = match ended {
            Ok(Ok(outcome)) => {
                metrics::record_transaction(&self.listener, began.elapsed());
                match outcome {
                    Ok(done) => return (Ok(done), Some(connection)),
                    Err(aborted) => {
                        let discards = discards_connection(&aborted);
                        (aborted, discards)
                    }
                }
            }
            Ok(Err(caught)) => {
                let why = format!("the handler panicked: {}", panic::text(&*caught));
                (Failure::Poison(why.into()).into(), true)
            }
            Err(_) => {
                let why = format!("the transaction did not end within {TIMEOUT:?}");
                (Aborted::TooSlow(why.into()), true)
            }
        };
        if !discards {
            return (Err(aborted), Some(connection));
        }
        connection.close_on_drop();
        (Err(aborted), None)
    }
}

fn discards_connection(aborted: &Aborted) -> bool {
    match aborted {
        Aborted::Failed(failure) => failure.discards_connection(),
        // After a time-out, the server may have ended the session.
        Aborted::TooSlow(_) => true,
    }
}

/// Errors as text, with time-outs of the server's apart from other failures.
fn in_words(aborted: Aborted) -> Aborted {
    match aborted {
        Aborted::Failed(failure) if failure.is_too_slow() => {
            Aborted::TooSlow(failure.to_string().into())
        }
        Aborted::Failed(failure) => Aborted::Failed(failure.in_words()),
        aborted @ Aborted::TooSlow(_) => aborted,
    }
}

/// Begins a transaction at the isolation level that the locks rely on.
pub(super) async fn begin(connection: &mut PgConnection) -> Result<PgTransaction<'_>, sqlx::Error> {
    connection.begin_with(BEGIN).await
}

/// Commits. If a handler swallowed an error of the database, the server has aborted the transaction; it would answer COMMIT with
/// ROLLBACK and no error, and sqlx does not look. The statement before the commit makes it an error.
pub(super) async fn commit(mut tx: PgTransaction<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("select").execute(&mut *tx).await?;
    tx.commit().await
}
