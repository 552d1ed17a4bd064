//! A session that migrates: alone in its database, and with short waits for locks.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

/// How long a migration waits for a lock on a table: every later statement on that table waits behind it meanwhile.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a concurrent build waits for each older transaction to end. No reader or writer waits behind it, so it may be long.
pub(super) const CONCURRENT_TIMEOUT: Duration = Duration::from_mins(5);
/// How long to wait for another process that migrates the database; it may be building an index.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_mins(10);
/// How often to ask whether the other process is done.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The advisory lock of the process that migrates: `outbox` in ASCII, as two numbers. PostgreSQL keeps such locks apart by database.
const LOCK: (i32, i32) = (0x6f75_7462, 0x6f78);

/// The settings of the session before it migrates.
pub(super) struct Session {
    lock_timeout: String,
    statement_timeout: String,
}

impl Session {
    /// Waits until no other process migrates the database; `None` if one does for longer than [`SESSION_TIMEOUT`].
    ///
    /// It polls for the lock rather than wait within the server: a session that waits there holds a snapshot, for which a concurrent build
    /// of the other session waits in turn, and PostgreSQL ends one of them as a deadlock.
    pub(super) async fn begin(database: &mut PgConnection) -> Result<Option<Self>, sqlx::Error> {
        let began = Instant::now();
        let mut logged = false;
        loop {
            let ours: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
                .bind(LOCK.0)
                .bind(LOCK.1)
                .fetch_one(&mut *database)
                .await?;
            if ours {
                break;
            }
            if began.elapsed() > SESSION_TIMEOUT {
                return Ok(None);
            }
            if !logged {
                tracing::info!("waiting for another process that migrates the database");
                logged = true;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
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
        // A service sets `statement_timeout` for its requests; building an index takes longer.
        set(database, "statement_timeout", "0").await?;
        wait_at_most(database, LOCK_TIMEOUT).await?;
        Ok(Some(session))
    }

    /// Releases the lock and restores the session's settings.
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
