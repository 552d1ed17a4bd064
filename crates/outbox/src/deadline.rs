//! A bound on the work on a pooled connection, for the library and for a service's own transactions.

use std::io;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

/// Runs `work` on a pooled connection, for at most `bound`.
///
/// When the bound elapses, it drops `work` and marks the connection for closing: the pool discards it on return, since a
/// transaction may still be open and an answer may still be on its way. The server's own time-outs do not help here: they do not
/// reach a client whose connection died without a word.
///
/// ```no_run
/// use std::time::Duration;
/// use outbox::deadline;
/// use sqlx::{Acquire, PgConnection, PgPool};
///
/// # async fn place(pool: &PgPool, events: &[outbox::Outgoing]) -> Result<(), sqlx::Error> {
/// let mut connection = pool.acquire().await?;
/// let place = async |connection: &mut PgConnection| {
///     let mut tx = connection.begin().await?;
///     outbox::append(&mut tx, events).await?;
///     tx.commit().await
/// };
/// deadline::within(Duration::from_secs(12), &mut connection, place).await
/// # }
/// ```
///
/// # Errors
/// Those of `work`; [`io::ErrorKind::TimedOut`] within [`sqlx::Error::Io`] when the bound elapses.
pub async fn within<T, E: From<sqlx::Error>>(
    bound: Duration,
    connection: &mut PoolConnection<Postgres>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    if let Ok(done) = tokio::time::timeout(bound, work(&mut *connection)).await {
        return done;
    }
    connection.close_on_drop();
    Err(elapsed(bound).into())
}

/// The error of a bound that has elapsed.
pub(crate) fn elapsed(bound: Duration) -> sqlx::Error {
    let why = format!("the database has not answered within {bound:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why))
}
