//! A bound on what a pooled connection may take.

use std::io;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

/// Runs `work` on a pooled connection, for at most `bound`.
///
/// When the bound elapses, `work` is dropped and the connection is marked for closing: the pool discards it on return, since a
/// transaction may still be open and an answer may still be on its way. The server's own time-outs do not help here: they do not
/// reach a client whose connection died without a word.
///
/// # Errors
/// Those of `work`; [`io::ErrorKind::TimedOut`] within [`sqlx::Error::Io`] when the bound elapses.
pub(crate) async fn within<T, E: From<sqlx::Error>>(
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
