//! The listener's own tables: epochs, inbox, letters.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::message::Message;

/// A partition of a topic.
pub(super) type Partition = (String, i32);

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

/// A message to put aside.
pub(super) struct Letter<'a> {
    pub(super) id: Uuid,
    pub(super) kind: &'static str,
    pub(super) error: String,
    pub(super) message: &'a Message,
}

/// Puts a message aside, whole: error, position, headers and raw bytes.
pub(super) async fn put_aside(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    letter: &Letter<'_>,
) -> Result<(), sqlx::Error> {
    let message = letter.message;
    let (names, values): (Vec<&str>, Vec<Option<&[u8]>>) = message
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .unzip();
    sqlx::query(
        r#"insert into dead_letter
             (listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value)
           values ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::double precision / 1000), $9, $10, $11, $12)
           on conflict do nothing"#,
    )
    .bind(listener)
    .bind(letter.id)
    .bind(letter.kind)
    // PostgreSQL's text has no NUL, and an error may quote bytes that have.
    .bind(letter.error.replace('\0', "\u{fffd}"))
    .bind(&message.at.topic)
    .bind(message.at.partition)
    .bind(message.at.offset)
    // What PostgreSQL cannot show as a time is no reason to lose the letter: years 1970 to 9999.
    .bind(message.timestamp.filter(|millis| (0..253_402_300_800_000).contains(millis)))
    .bind(message.key.as_deref())
    .bind(names)
    .bind(values)
    .bind(message.value.as_deref())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
