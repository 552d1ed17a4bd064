//! Rows that have done their work.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use super::observation::Sender;
use super::{CHUNK, INBOX_AT_ONCE};

/// Rows that are marked at once: 16 bytes each, and one wait for the slot.
const MARKED_AT_ONCE: i64 = 50_000;

/// Chunks that are removed before the slot is looked at again.
const CHUNKS_AT_ONCE: usize = 10;

/// Old rows, and a position of the log that was read after they had become visible: once the slot has confirmed it, they
/// have reached Kafka.
pub(super) struct Mark {
    ids: Vec<Uuid>,
    position: i64,
    /// Who read the slot then. While the same process reads it, it is the same slot: nobody can drop one in use.
    sender: Sender,
}

/// What is to become of marked rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may go.
    Confirmed,
    /// The slot is not there yet.
    Wait,
    /// Somebody else reads the slot: it may be a new one, and nobody knows what that has confirmed of these rows.
    Void,
}

impl Mark {
    /// How many rows are marked.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// What is to become of the rows, now that the slot is read by `sender`.
    pub(super) fn verdict(&self, sender: Sender, confirmed: Option<i64>) -> Verdict {
        if self.sender != sender {
            Verdict::Void
        // A slot that was just made has confirmed the position at which that happened: not one that was read.
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
    // A statement of its own: these rows are visible, so their commits are in the log before this position.
    let seen = super::observation::Seen::look(connection, slot).await?;
    // One that is still being made has confirmed nothing, and its maker may be its reader later.
    let sender = seen.sender().ok().filter(|_| seen.confirmed.is_some());
    Ok(sender.map(|sender| Mark {
        ids,
        position: seen.position,
        sender,
    }))
}

/// Removes some of the marked rows, a chunk at a time; the others stay marked.
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
        // Half of the time is for others.
        tokio::time::sleep(began.elapsed()).await;
    }
    Ok(removed)
}

/// Removes inbox rows older than `age`, a chunk at a time. One whose event was dead-lettered stays with its dead letter: the event
/// must not be applied beside it.
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
    fn rows_go_only_by_the_word_of_the_reader_that_they_were_marked_under() {
        let mark = Mark {
            ids: vec![Uuid::nil()],
            position: 100,
            sender: (7, 1),
        };
        assert_eq!(mark.verdict((7, 1), Some(101)), Verdict::Confirmed);
        for not_there in [None, Some(99), Some(100)] {
            assert_eq!(mark.verdict((7, 1), not_there), Verdict::Wait);
        }
        // Another process, or another one under the same number.
        for other in [(8, 1), (7, 2)] {
            assert_eq!(mark.verdict(other, Some(1_000)), Verdict::Void);
        }
    }
}
