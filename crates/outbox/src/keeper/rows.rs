//! Retention: outbox rows that have reached Kafka, and inbox rows that no message can need again.
//!
//! An outbox row is the only copy of an event until Kafka has it, and the source from which a lost slot heals. So the keeper removes
//! it in two steps. It *marks* old rows together with a position of the log that it read after they had become visible, and removes
//! them only once one and the same reader of the slot has confirmed a later position. If the slot is missing, lost, or read by another
//! process than before, the mark is void.
//!
//! Deletes run in small transactions with pauses, so that they neither hold locks for long nor fill the log faster than the
//! connector reads it.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use super::status::{Sender, Status};

/// Rows of one deleting transaction.
const CHUNK: i64 = 1_000;
/// The most inbox rows that one pass removes.
pub(super) const INBOX_AT_ONCE: i64 = 20 * CHUNK;
/// The most rows of a mark, at 16 bytes each: they wait for the slot once.
const MARKED_AT_ONCE: i64 = 50_000;

/// The most chunks of outbox rows that one pass removes.
const CHUNKS_AT_ONCE: usize = 10;

/// Old rows, and a position of the log that was read after the rows had become visible: once the slot has confirmed that position,
/// their events have reached Kafka.
pub(super) struct Mark {
    ids: Vec<Uuid>,
    position: i64,
    /// The walsender at that time. As long as it runs, the slot is the same: PostgreSQL drops none that is in use.
    sender: Sender,
}

/// What may be done with marked rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Remove them: their events have reached Kafka.
    Confirmed,
    /// Keep them marked: the slot has not confirmed them.
    Wait,
    /// Mark anew: another process reads the slot, which may be a recreated one that has confirmed none of these rows.
    Void,
}

impl Mark {
    /// How many rows are marked.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Decides on the rows, now that `sender` reads the slot.
    pub(super) fn verdict(&self, sender: Sender, confirmed: Option<i64>) -> Verdict {
        if self.sender != sender {
            Verdict::Void
        // Not `>=`: a slot counts the position at which it was created as confirmed, though it was never read.
        } else if confirmed.is_some_and(|confirmed| confirmed > self.position) {
            Verdict::Confirmed
        } else {
            Verdict::Wait
        }
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
    // A statement of its own: the rows are visible before it, so their commits are in the log before its position.
    let status = Status::read(connection, slot).await?;
    // A slot that is still being created has confirmed nothing, and the process that creates it may read it later.
    let sender = status.sender().ok().filter(|_| status.confirmed.is_some());
    Ok(sender.map(|sender| Mark {
        ids,
        position: status.position,
        sender,
    }))
}

/// Removes some of the marked rows in chunks, each a transaction; the others stay marked.
pub(super) async fn remove(
    connection: &mut PgConnection,
    mark: &mut Mark,
) -> Result<u64, sqlx::Error> {
    let most = usize::try_from(CHUNK).unwrap_or(usize::MAX);
    let mut removed = 0;
    for _ in 0..CHUNKS_AT_ONCE {
        let began = Instant::now();
        let chunk = mark.ids.split_off(mark.ids.len().saturating_sub(most));
        if chunk.is_empty() {
            break;
        }
        removed += sqlx::query("delete from outbox where id = any($1)")
            .bind(&chunk)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        // Leaves half of the time to other sessions.
        tokio::time::sleep(began.elapsed()).await;
    }
    Ok(removed)
}

/// Removes inbox rows older than `age` in chunks, each a transaction. The row of a dead letter stays as long as that does: a
/// listener must not apply a redelivery of its event beside it.
pub(super) async fn forget(
    connection: &mut PgConnection,
    age: Duration,
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    loop {
        let began = Instant::now();
        let chunk = sqlx::query(
            "delete from inbox where (listener, id) in
                 (select listener, id from inbox
                  where settled_at < now() - make_interval(secs => $1)
                        and not exists (select from dead_letter
                                        where dead_letter.listener = inbox.listener and dead_letter.id = inbox.id)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_rows_are_removed_only_if_the_same_walsender_has_confirmed_them() {
        let mark = Mark {
            ids: vec![Uuid::nil()],
            position: 100,
            sender: (7, 1),
        };
        assert_eq!(mark.verdict((7, 1), Some(101)), Verdict::Confirmed);
        for unconfirmed in [None, Some(99), Some(100)] {
            assert_eq!(mark.verdict((7, 1), unconfirmed), Verdict::Wait);
        }
        // Another process, or a later one with the same id.
        for other in [(8, 1), (7, 2)] {
            assert_eq!(mark.verdict(other, Some(1_000)), Verdict::Void);
        }
    }
}
