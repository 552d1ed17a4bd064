//! The tables `epoch` and `inbox`: which consumer may write, and which events are settled.
//!
//! Transactions lock both in a fixed order, epochs by topic and partition, then inbox rows by id, so that listeners that share
//! a database do not deadlock. The epoch comes first of all: a transaction that waits for it reads the inbox only after the one
//! before it has committed, and so sees what that one has settled.
//!
//! The inbox knows what is *settled*: applied, ignored, dead-lettered or parked. A dead letter stays in the inbox, so that a
//! redelivery does not create it again; a redrive applies it without asking the inbox.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use super::batch::Epochs;
use super::partition::Partition;

/// Locks the epoch rows of the partitions, in order, and returns their epochs. Claims a partition without a known epoch: its
/// epoch rises, which supersedes the consumer that held it before.
pub(super) async fn lock_epochs(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    known: &Epochs,
) -> Result<BTreeMap<Partition, i64>, sqlx::Error> {
    let topics: Vec<&str> = known.keys().map(|key| key.topic.as_str()).collect();
    let numbers: Vec<i32> = known.keys().map(|key| key.number).collect();
    let claims: Vec<bool> = known.values().map(Option::is_none).collect();
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
        .map(|(topic, number, epoch)| (Partition { topic, number }, epoch))
        .collect())
}

/// Inserts ids into the inbox, in id order so that two listeners do not deadlock, and returns those that were not in it.
pub(super) async fn insert(
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
