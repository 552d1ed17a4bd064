//! A session that migrates: alone in its database, and never waiting long for a lock.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

/// How long a migration waits for a lock that the tables' users hold; they wait behind it meanwhile.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a concurrent build waits for each older transaction to end. Readers and writers do not wait for it, so it may be long.
pub(super) const CONCURRENT_TIMEOUT: Duration = Duration::from_mins(5);
/// How long to wait for another process that migrates the database; it may be building an index.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_mins(10);
/// How often to ask whether the other process is done.
const TURN_PERIOD: Duration = Duration::from_millis(200);
/// The advisory lock of whoever migrates, in a database's own space of locks: `outbox` in ASCII, as two numbers.
const LOCK: (i32, i32) = (0x6f75_7462, 0x6f78);

/// The settings of a session as they were.
pub(super) struct Session {
    lock_timeout: String,
    statement_timeout: String,
}

impl Session {
    /// Waits until no other process migrates the database; `None` if one does for longer than [`TURN_TIMEOUT`].
    ///
    /// The lock is asked for again and again, never waited for within the server: a session that waits there holds a snapshot, and
    /// an index that another session builds concurrently waits for that in turn, which PostgreSQL ends as a deadlock.
    pub(super) async fn begin(database: &mut PgConnection) -> Result<Option<Self>, sqlx::Error> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let ours: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
                .bind(LOCK.0)
                .bind(LOCK.1)
                .fetch_one(&mut *database)
                .await?;
            if ours {
                break;
            }
            if began.elapsed() > TURN_TIMEOUT {
                return Ok(None);
            }
            if !told {
                tracing::info!("waiting for another process that migrates the database");
                told = true;
            }
            tokio::time::sleep(TURN_PERIOD).await;
        }
        let (lock_timeout, statement_timeout) = sqlx::query_as(
            "select current_setting('lock_timeout'), current_setting('statement_timeout')",
        )
        .fetch_one(&mut *database)
        .await?;
        let session = Self {
            lock_timeout,
            statement_timeout,
        };
        // A pool's limit on statements is meant for those of a request.
        set(database, "statement_timeout", "0").await?;
        wait_at_most(database, LOCK_TIMEOUT).await?;
        Ok(Some(session))
    }

    /// Lets the next process migrate, and gives the session its settings back.
    pub(super) async fn end(self, database: &mut PgConnection) -> Result<(), sqlx::Error> {
        set(database, "lock_timeout", &self.lock_timeout).await?;
        set(database, "statement_timeout", &self.statement_timeout).await?;
        sqlx::query("select pg_advisory_unlock($1, $2)")
            .bind(LOCK.0)
            .bind(LOCK.1)
            .execute(database)
            .await?;
        Ok(())
    }
}

/// Bounds how long the session's next statements wait for each lock.
pub(super) async fn wait_at_most(
    database: &mut PgConnection,
    time: Duration,
) -> Result<(), sqlx::Error> {
    set(database, "lock_timeout", &time.as_millis().to_string()).await
}

async fn set(database: &mut PgConnection, setting: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config($1, $2, false)")
        .bind(setting)
        .bind(value)
        .execute(database)
        .await?;
    Ok(())
}
