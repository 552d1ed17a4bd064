//! The tables `dead_letter`, `blocked_key` and `discarded_dead_letter`: all SQL that changes or locks their rows, and the order of
//! the locks. The queries without a lock are in `select`. (The keeper reads `dead_letter` too: it keeps the inbox row of every dead
//! letter.)
//!
//! # Locks
//! A key that has dead letters has a row in `blocked_key`. Every transaction that parks a message behind them, retries or discards
//! one of them locks that row first, then the dead letter, so that all of them see the same state until they commit. Only
//! [`postpone`] needs no lock of the key: it changes a time and an error, by which no other transaction decides. The row has the
//! SHA-256 digest of the key: Kafka's keys may be longer than an index entry.
//!
//! A listener does not wait for such a lock: a redrive may hold it for as long as a transaction may take. It leaves the key's
//! messages over, and waits only where it could settle no other message instead ([`lock_blocked_keys`]).
//!
//! # Automatic retries
//! Only the first dead letter of a key, or one without a key, has a time in `retry_at`. Removing the first one makes the next one
//! ready, or removes the key's row. So a query for those to retry never meets a parked message, however many there are.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use sqlx::postgres::PgTransaction;
use sqlx::{PgConnection, QueryBuilder};
use uuid::Uuid;

use super::filter::Filter;
use super::record::{DeadLetter, NewDeadLetter, error_text};
use super::select::select;
use crate::listener::dead_letter_kind::Kind;
use crate::listener::partition::Key;

/// Keys that have dead letters.
#[derive(Debug, Default)]
pub(in crate::listener) struct BlockedKeys {
    /// Locked by this transaction: later messages of theirs are parked.
    pub(in crate::listener) locked: HashSet<Key>,
    /// Locked by another transaction, which parks, retries or discards; or which has just done so.
    pub(in crate::listener) locked_by_others: HashSet<Key>,
}

/// Locks those of `keys` that have dead letters. With `waits`, it waits for other transactions, in the order of the keys so that
/// two listeners do not deadlock; this listener then comes before the next redrive.
pub(in crate::listener) async fn lock_blocked_keys(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    keys: &BTreeSet<Key>,
    waits: bool,
) -> Result<BlockedKeys, sqlx::Error> {
    let mut blocked = BlockedKeys::default();
    if keys.is_empty() {
        return Ok(blocked);
    }
    let (topics, bytes): (Vec<&str>, Vec<&[u8]>) = keys
        .iter()
        .map(|key| (key.topic.as_str(), key.bytes.as_slice()))
        .unzip();
    let statement = if waits {
        "select wanted.topic, wanted.key, true
         from blocked_key
         join unnest($2::text[], $3::bytea[]) as wanted (topic, key)
              on blocked_key.topic = wanted.topic and key_digest = sha256(key)
         where listener = $1
         order by blocked_key.topic, key_digest
         for update of blocked_key"
    } else {
        "with found as materialized (
             select blocked_key.topic, key_digest, key
             from blocked_key
             join unnest($2::text[], $3::bytea[]) as wanted (topic, key)
                  on blocked_key.topic = wanted.topic and key_digest = sha256(key)
             where listener = $1
         ), locked as materialized (
             select topic, key_digest from blocked_key
             where listener = $1 and (topic, key_digest) in (select topic, key_digest from found)
             for update skip locked
         )
         select topic, key, locked.key_digest is not null
         from found left join locked using (topic, key_digest)"
    };
    let rows: Vec<(String, Vec<u8>, bool)> = sqlx::query_as(statement)
        .bind(listener)
        .bind(topics)
        .bind(bytes)
        .fetch_all(&mut **tx)
        .await?;
    for (topic, bytes, is_locked) in rows {
        let keys = if is_locked {
            &mut blocked.locked
        } else {
            &mut blocked.locked_by_others
        };
        keys.insert(Key { topic, bytes });
    }
    Ok(blocked)
}

/// Blocks keys: the listener parks their later messages from now on. It locks rows that exist, since a redrive may be about to
/// remove one where a key is in two partitions (`tests/model.rs` shows how).
async fn block_keys(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    keys: &BTreeSet<(&str, &[u8])>,
) -> Result<(), sqlx::Error> {
    let (topics, bytes): (Vec<&str>, Vec<&[u8]>) = keys.iter().copied().unzip();
    sqlx::query(
        "insert into blocked_key (listener, topic, key_digest)
         select $1, topic, sha256(key) from unnest($2::text[], $3::bytea[]) as wanted (topic, key)
         order by topic, sha256(key)
         on conflict (listener, topic, key_digest) do update set blocked_at = blocked_key.blocked_at",
    )
    .bind(listener)
    .bind(topics)
    .bind(bytes)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Rows in one statement: each has 14 values, and a statement takes 65,535.
const INSERT_ROWS: usize = 1000;

/// Writes messages as dead letters, whole: error, position, headers and raw bytes. Blocks their keys.
pub(in crate::listener) async fn move_to_dead_letter(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    dead_letters: &[NewDeadLetter<'_>],
) -> Result<(), sqlx::Error> {
    let keys: BTreeSet<(&str, &[u8])> = dead_letters
        .iter()
        .filter_map(|new| Some((new.message.at.topic.as_str(), new.message.key.as_deref()?)))
        .collect();
    if !keys.is_empty() {
        block_keys(tx, listener, &keys).await?;
    }
    for rows in dead_letters.chunks(INSERT_ROWS) {
        let mut statement = QueryBuilder::new(
            r#"insert into dead_letter
                 (listener, id, kind, error, attempts, retry_at, topic, partition, "offset", produced_at, key, header_names,
                  header_values, value) "#,
        );
        statement.push_values(rows, |mut row, new| {
            let message = new.message;
            let (names, values): (Vec<&str>, Vec<Option<&[u8]>>) = message
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .unzip();
            // PostgreSQL's calendar has no place for every number of milliseconds: years 1970 to 9999.
            let produced_at = message
                .timestamp
                .filter(|millis| (0..253_402_300_800_000).contains(millis));
            row.push_bind(listener)
                .push_bind(new.id)
                .push_bind(new.kind.as_str())
                .push_bind(&new.error)
                .push_bind(i64::from(new.attempts))
                .push("now() + make_interval(secs => ")
                .push_bind_unseparated(new.retry_in.map(|wait| wait.as_secs_f64()))
                .push_unseparated(")")
                .push_bind(&message.at.topic)
                .push_bind(message.at.partition)
                .push_bind(message.at.offset)
                .push("to_timestamp(")
                .push_bind_unseparated(produced_at)
                .push_unseparated("::double precision / 1000)")
                .push_bind(message.key.as_deref())
                .push_bind(names)
                .push_bind(values)
                .push_bind(message.value.as_deref());
        });
        statement.push(" on conflict do nothing");
        // Each number of rows is a statement of its own: prepared for good, they would fill the connection's cache.
        let statement = statement.build().persistent(false);
        statement.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Whether to wait for a dead letter that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::listener) enum LockMode {
    /// As an operator does.
    Wait,
    /// As the listener does, which retries only those whose `retry_at` has passed.
    SkipLocked,
}

/// Why a transaction did not lock a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotLocked {
    /// There is no such dead letter.
    Gone,
    /// Another transaction has locked it or its key, or has just retried it.
    Busy,
}

/// Locks a dead letter's key, then the dead letter.
pub(super) async fn lock(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    id: Uuid,
    mode: LockMode,
) -> Result<Result<DeadLetter, NotLocked>, sqlx::Error> {
    let found: Option<(String, Option<Vec<u8>>)> =
        sqlx::query_as("select topic, key from dead_letter where listener = $1 and id = $2")
            .bind(listener)
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
    let Some((topic, key)) = found else {
        return Ok(Err(NotLocked::Gone));
    };
    if let Some(key) = key
        && !lock_key(tx, listener, &topic, &key, mode).await?
    {
        return Ok(Err(NotLocked::Busy));
    }
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    let mut query = select(listener, &filter);
    let absent = match mode {
        LockMode::Wait => {
            query.push(" for update of dead_letter");
            NotLocked::Gone
        }
        // Another worker may have retried it since it was found.
        LockMode::SkipLocked => {
            query.push(" and retry_at <= now() for update of dead_letter skip locked");
            NotLocked::Busy
        }
    };
    let dead_letter = query.build_query_as().fetch_optional(&mut **tx).await?;
    Ok(dead_letter.ok_or(absent))
}

/// Locks a key that has a dead letter, and returns whether it could. It creates the key's row again if an operator has removed
/// it by hand, so that a redrive finds the row and later messages are parked.
async fn lock_key(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    topic: &str,
    key: &[u8],
    mode: LockMode,
) -> Result<bool, sqlx::Error> {
    if mode == LockMode::Wait {
        block_keys(tx, listener, &[(topic, key)].into()).await?;
        return Ok(true);
    }
    // `on conflict do nothing` waits for a transaction that is updating the row: so the row is inserted only where there is none.
    let locked: Option<bool> = sqlx::query_scalar(
        "with locked as (
             select from blocked_key where listener = $1 and topic = $2 and key_digest = sha256($3) for update skip locked
         ), created as (
             insert into blocked_key (listener, topic, key_digest)
             select $1, $2, sha256($3)
             where not exists (select from blocked_key where listener = $1 and topic = $2 and key_digest = sha256($3))
             on conflict do nothing
             returning true
         )
         select true from locked union all select true from created",
    )
    .bind(listener)
    .bind(topic)
    .bind(key)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(locked.is_some())
}

/// Parks a locked dead letter that is not the first of its key: two partitions wrote a first one at the same time. It has no
/// `retry_at` until it is the first.
pub(super) async fn park(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update dead_letter set kind = 'parked', retry_at = null where listener = $1 and id = $2",
    )
    .bind(listener)
    .bind(id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a locked dead letter. The next one of its key becomes ready, or its key is free.
pub(super) async fn remove(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    dead_letter: &DeadLetter,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from dead_letter where listener = $1 and id = $2")
        .bind(listener)
        .bind(dead_letter.id)
        .execute(&mut **tx)
        .await?;
    let (topic, Some(key)) = (&dead_letter.message.at.topic, &dead_letter.message.key) else {
        return Ok(());
    };
    let next: Option<Uuid> = sqlx::query_scalar(
        "select id from dead_letter where listener = $1 and topic = $2 and key_digest = sha256($3) order by seq limit 1",
    )
    .bind(listener)
    .bind(topic)
    .bind(key)
    .fetch_optional(&mut **tx)
    .await?;
    let statement = match next {
        Some(id) => sqlx::query(
            "update dead_letter set retry_at = now()
             where listener = $1 and id = $2 and kind = 'parked' and retry_at is null",
        )
        .bind(listener)
        .bind(id),
        None => sqlx::query(
            "delete from blocked_key where listener = $1 and topic = $2 and key_digest = sha256($3)",
        )
        .bind(listener)
        .bind(topic)
        .bind(key),
    };
    statement.execute(&mut **tx).await?;
    Ok(())
}

/// Moves a locked dead letter to `discarded_dead_letter`. The database records who did it, and when.
pub(super) async fn discard(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    dead_letter: &DeadLetter,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"insert into discarded_dead_letter
             (listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value,
              attempts, dead_lettered_at, reason)
           select listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value,
                  attempts, dead_lettered_at, $3
           from dead_letter where listener = $1 and id = $2"#,
    )
    .bind(listener)
    .bind(dead_letter.id)
    .bind(error_text(reason))
    .execute(&mut **tx)
    .await?;
    remove(tx, listener, dead_letter).await
}

/// Records a failed attempt of a locked dead letter, and when the listener retries it.
pub(super) async fn record_attempt(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    id: Uuid,
    kind: Kind,
    error: &str,
    retry_in: Option<Duration>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update dead_letter
         set kind = $3, error = $4, attempts = attempts + 1, retry_at = now() + make_interval(secs => $5)
         where listener = $1 and id = $2",
    )
    .bind(listener)
    .bind(id)
    .bind(kind.as_str())
    .bind(error)
    .bind(retry_in.map(|wait| wait.as_secs_f64()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Postpones a dead letter, with the error that keeps the listener from attempting it; this is no attempt.
pub(super) async fn postpone(
    connection: &mut PgConnection,
    listener: &str,
    id: Uuid,
    error: &str,
    wait: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update dead_letter set error = $3, retry_at = now() + make_interval(secs => $4)
         where listener = $1 and id = $2 and retry_at <= now()",
    )
    .bind(listener)
    .bind(id)
    .bind(error_text(error))
    .bind(wait.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(())
}
