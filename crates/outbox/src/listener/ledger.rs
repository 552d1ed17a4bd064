//! The listener's own tables: epochs, inbox, dead letters.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use sqlx::QueryBuilder;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use super::bisect::TRIES;
use super::dead_letter::Kind;
use crate::message::Message;

/// A partition of a topic.
pub(super) type Partition = (String, i32);

/// A key of a topic, as messages have it.
pub(super) type Key = (String, Vec<u8>);

impl Message {
    /// Where it comes from.
    pub(super) fn partition(&self) -> Partition {
        (self.at.topic.clone(), self.at.partition)
    }

    /// Its key within its topic, if it has one.
    pub(super) fn topic_key(&self) -> Option<Key> {
        Some((self.at.topic.clone(), self.key.clone()?))
    }
}

/// Locks the epoch rows of `partitions`, in order, and returns the epochs as they are now. A partition without a
/// known epoch is claimed: its epoch rises, so that whoever held it before is superseded.
pub(super) async fn lock_epochs(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    partitions: &BTreeMap<Partition, Option<i64>>,
) -> Result<BTreeMap<Partition, i64>, sqlx::Error> {
    let topics: Vec<&str> = partitions.keys().map(|(topic, _)| topic.as_str()).collect();
    let numbers: Vec<i32> = partitions.keys().map(|(_, number)| *number).collect();
    let claims: Vec<bool> = partitions.values().map(Option::is_none).collect();
    let statement = if claims.contains(&true) {
        "insert into epoch as held (listener, topic, partition, epoch)
         select $1, topic, partition, claim::integer
         from unnest($2::text[], $3::integer[], $4::boolean[]) as wanted (topic, partition, claim)
         order by topic, partition
         on conflict (listener, topic, partition) do update set epoch = held.epoch + excluded.epoch
         returning topic, partition, epoch"
    } else {
        "select topic, partition, epoch
         from epoch
         join unnest($2::text[], $3::integer[], $4::boolean[]) as wanted (topic, partition, claim)
              using (topic, partition)
         where listener = $1
         order by topic, partition
         for update of epoch"
    };
    let rows: Vec<(String, i32, i64)> = sqlx::query_as(statement)
        .bind(listener)
        .bind(topics)
        .bind(numbers)
        .bind(claims)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(topic, number, epoch)| ((topic, number), epoch))
        .collect())
}

/// Enters ids into the inbox, in id order so that two listeners do not deadlock, and returns those that were not
/// in it yet.
pub(super) async fn settle(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    ids: &[Uuid],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let fresh: Vec<Uuid> = sqlx::query_scalar(
        "insert into inbox (listener, id)
         select distinct $1, id from unnest($2::uuid[]) as event (id) order by id
         on conflict do nothing
         returning id",
    )
    .bind(listener)
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(fresh.into_iter().collect())
}

/// Keys that have dead letters.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// Locked here: what comes later of them waits.
    pub(super) held: HashSet<Key>,
    /// Locked by somebody else, who tries a dead letter of theirs, drops one, or puts one aside; or who has just done so.
    pub(super) busy: HashSet<Key>,
}

/// Locks those of `keys` that have dead letters. Whoever redrives holds the same locks, so what is seen here stays so until the
/// transaction ends. Nobody is waited for, since a redrive may take as long as a transaction may, unless `patient`: then its turn
/// comes before the next redrive's, in the order of the keys so that two who wait do not deadlock.
pub(super) async fn lock_blocked(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    keys: &BTreeSet<Key>,
    patient: bool,
) -> Result<Blocked, sqlx::Error> {
    let mut blocked = Blocked::default();
    if keys.is_empty() {
        return Ok(blocked);
    }
    let (topics, bytes): (Vec<&str>, Vec<&[u8]>) = keys
        .iter()
        .map(|(topic, key)| (topic.as_str(), key.as_slice()))
        .unzip();
    let statement = if patient {
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
         ), held as materialized (
             select topic, key_digest from blocked_key
             where listener = $1 and (topic, key_digest) in (select topic, key_digest from found)
             for update skip locked
         )
         select topic, key, held.key_digest is not null
         from found left join held using (topic, key_digest)"
    };
    let rows: Vec<(String, Vec<u8>, bool)> = sqlx::query_as(statement)
        .bind(listener)
        .bind(topics)
        .bind(bytes)
        .fetch_all(&mut **tx)
        .await?;
    for (topic, key, held) in rows {
        let of_kind = if held {
            &mut blocked.held
        } else {
            &mut blocked.busy
        };
        of_kind.insert((topic, key));
    }
    Ok(blocked)
}

/// What comes later of `keys` waits from now on. A row that is there is locked: whoever redrives may be about to remove it,
/// where a key is in two partitions (`tests/model.rs` shows how).
pub(super) async fn block(
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

/// A message to dead-letter.
pub(super) struct NewDeadLetter<'a> {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    /// As [`text`] gives it.
    pub(super) error: String,
    /// When it is tried again by itself, from now.
    pub(super) retry_in: Option<Duration>,
    pub(super) message: &'a Message,
}

/// Dead letters in one statement; a row has 14 values, and a statement at most 65,535.
const DEAD_LETTERS_AT_ONCE: usize = 1000;

/// Puts messages aside, whole: error, position, headers and raw bytes. What comes later of their keys waits behind them.
pub(super) async fn move_to_dead_letter(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    dead_letters: &[NewDeadLetter<'_>],
) -> Result<(), sqlx::Error> {
    let keys: BTreeSet<(&str, &[u8])> = dead_letters
        .iter()
        .filter_map(|dead_letter| {
            Some((
                dead_letter.message.at.topic.as_str(),
                dead_letter.message.key.as_deref()?,
            ))
        })
        .collect();
    if !keys.is_empty() {
        block(tx, listener, &keys).await?;
    }
    for some in dead_letters.chunks(DEAD_LETTERS_AT_ONCE) {
        let mut statement = QueryBuilder::new(
            r#"insert into dead_letter
                 (listener, id, kind, error, attempts, retry_at, topic, partition, "offset", produced_at, key, header_names,
                  header_values, value) "#,
        );
        statement.push_values(some, |mut row, dead_letter| {
            let message = dead_letter.message;
            let (names, values): (Vec<&str>, Vec<Option<&[u8]>>) = message
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .unzip();
            row.push_bind(listener)
                .push_bind(dead_letter.id)
                .push_bind(dead_letter.kind.as_str())
                .push_bind(&dead_letter.error)
                .push_bind(match dead_letter.kind {
                    Kind::Parked => 0,
                    Kind::Poison | Kind::Deferred => 1,
                    Kind::Unknown => i64::from(TRIES),
                })
                .push("now() + make_interval(secs => ")
                .push_bind_unseparated(dead_letter.retry_in.map(|wait| wait.as_secs_f64()))
                .push_unseparated(")")
                .push_bind(&message.at.topic)
                .push_bind(message.at.partition)
                .push_bind(message.at.offset)
                .push("to_timestamp(")
                // What PostgreSQL cannot show as a time is no reason to lose the dead letter: years 1970 to 9999.
                .push_bind_unseparated(
                    message
                        .timestamp
                        .filter(|millis| (0..253_402_300_800_000).contains(millis)),
                )
                .push_unseparated("::double precision / 1000)")
                .push_bind(message.key.as_deref())
                .push_bind(names)
                .push_bind(values)
                .push_bind(message.value.as_deref());
        });
        statement.push(" on conflict do nothing");
        // Each count of dead letters is another text: prepared for good, they would fill the connection's cache and the server's memory.
        let once = statement.build().persistent(false);
        once.execute(&mut **tx).await?;
    }
    Ok(())
}

/// The most characters of an error that are kept: it may quote a message whole.
const TEXT_MOST: usize = 2000;

/// An error for `dead_letter.error` and the log. PostgreSQL's text has no NUL, and an error may quote bytes that have. Of a
/// long one only the beginning is kept, with a word of how long it was.
pub(super) fn text(error: &str) -> String {
    let text = error.replace('\0', "\u{fffd}");
    match text.char_indices().nth(TEXT_MOST) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_no_nul_and_a_bound() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        let whole = "ä".repeat(TEXT_MOST);
        assert_eq!(text(&whole), whole);
        let cut = text(&format!("{whole}ö"));
        assert_eq!(cut, format!("{whole}… (2001 characters)"));
    }
}
