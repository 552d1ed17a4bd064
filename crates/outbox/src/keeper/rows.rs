//! Rows that have done their work.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use super::observation::Sender;
use super::{CHUNK, INBOX_AT_ONCE};

/// Rows that are marked at once: 16 bytes each, and one wait for the slot.
const MARKED_AT_ONCE: i64 = 50_000;

/// Old rows, and a position of the log that was read after they had become visible: once the slot has confirmed it, they
/// have reached Kafka.
pub(super) struct Mark {
    ids: Vec<Uuid>,
    pub(super) position: i64,
    /// Who read the slot then. While the same process reads it, it is the same slot: nobody can drop one in use.
    pub(super) sender: Sender,
}

impl Mark {
    /// How many rows are marked.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Marks the oldest rows, if any are older than `age`.
pub(super) async fn mark(
    connection: &mut PgConnection,
    slot: &str,
    age: Duration,
) -> Result<Option<Mark>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        r#"select id from outbox where "timestamp" < localtimestamp - make_interval(secs => $1)
           order by "timestamp" limit $2"#,
    )
    .bind(age.as_secs_f64())
    .bind(MARKED_AT_ONCE)
    .fetch_all(&mut *connection)
    .await?;
    if ids.is_empty() {
        return Ok(None);
    }
    // A statement of its own: these rows are visible, so their commits are in the log before this position.
    let seen = super::observation::Seen::look(connection, slot).await?;
    Ok(seen.sender().ok().map(|sender| Mark {
        ids,
        position: seen.position,
        sender,
    }))
}

/// Removes marked rows, a chunk at a time.
pub(super) async fn remove(connection: &mut PgConnection, mark: &Mark) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for chunk in mark
        .ids
        .chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX))
    {
        let began = Instant::now();
        removed += sqlx::query("delete from outbox where id = any($1)")
            .bind(chunk)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        // Half of the time is for others.
        tokio::time::sleep(began.elapsed()).await;
    }
    Ok(removed)
}

/// Removes inbox rows older than `age`, a chunk at a time.
pub(super) async fn forget(
    connection: &mut PgConnection,
    age: Duration,
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    loop {
        let began = Instant::now();
        let chunk = sqlx::query(
            "delete from inbox where (listener, id) in
                 (select listener, id from inbox where settled_at < now() - make_interval(secs => $1)
                  order by settled_at limit $2)",
        )
        .bind(age.as_secs_f64())
        .bind(CHUNK)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        removed += chunk;
        if chunk < CHUNK.unsigned_abs() || removed >= INBOX_AT_ONCE.unsigned_abs() {
            return Ok(removed);
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}
