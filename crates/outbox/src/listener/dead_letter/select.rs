//! Reading dead letters: the columns of one, and the queries that take no lock.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::filter::Filter;
use super::record::DeadLetter;
use crate::deadline;
use crate::listener::dead_letter_kind::Kind;
use crate::message::{Message, Position};

const COLUMNS: &str = r#"select id, seq, kind, error, attempts, topic, partition, "offset", key, header_names, header_values, value,
        (extract(epoch from produced_at) * 1000)::bigint as timestamp,
        to_char(dead_lettered_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as dead_lettered_at,
        greatest(extract(epoch from now() - dead_lettered_at), 0)::bigint as age_s,
        to_char(retry_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as retry_at,
        key is null or not exists (select from dead_letter as earlier
                                   where earlier.listener = dead_letter.listener and earlier.topic = dead_letter.topic
                                         and earlier.key_digest = dead_letter.key_digest and earlier.seq < dead_letter.seq) as first
 from dead_letter
 where listener = "#;

/// Selects the dead letters of a listener that `filter` means, but for its event type. Callers add conditions, an order or a lock.
pub(super) fn select(listener: &str, filter: &Filter) -> QueryBuilder<sqlx::Postgres> {
    let mut query = QueryBuilder::new(COLUMNS);
    query.push_bind(listener.to_owned());
    if let Some(id) = filter.id {
        query.push(" and id = ").push_bind(id);
    }
    if let Some(topic) = &filter.topic {
        query.push(" and topic = ").push_bind(topic.clone());
    }
    if let Some(key) = &filter.key {
        query
            .push(" and key_digest = sha256(")
            .push_bind(key.clone())
            .push(")");
    }
    if let Some(kind) = filter.kind {
        query.push(" and kind = ").push_bind(kind.as_str());
    }
    if let Some(seconds) = filter.older_than_s {
        #[expect(clippy::cast_precision_loss, reason = "at most some years of seconds")]
        let seconds = seconds as f64;
        query
            .push(" and dead_lettered_at <= now() - make_interval(secs => ")
            .push_bind(seconds)
            .push(")");
    }
    query
}

impl FromRow<'_, PgRow> for DeadLetter {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let names: Vec<String> = row.try_get("header_names")?;
        let values: Vec<Option<Vec<u8>>> = row.try_get("header_values")?;
        Ok(Self {
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            kind: Kind::from_column(row.try_get("kind")?)?,
            error: row.try_get("error")?,
            attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
            dead_lettered_at: row.try_get("dead_lettered_at")?,
            age_s: row.try_get::<i64, _>("age_s")?.unsigned_abs(),
            retry_at: row.try_get("retry_at")?,
            first: row.try_get("first")?,
            message: Message {
                at: Position {
                    topic: row.try_get("topic")?,
                    partition: row.try_get("partition")?,
                    offset: row.try_get("offset")?,
                },
                timestamp: row.try_get("timestamp")?,
                key: row.try_get("key")?,
                headers: names.into_iter().zip(values).collect(),
                value: row.try_get("value")?,
            },
        })
    }
}

/// Reads at most `limit` dead letters after `after`, in their order, one by one: each may be as large as a message, and may take
/// as long as `bound`. Stops early once `each` returns false. Returns how many it has read.
///
/// The bound is that of a row, so [`deadline::within`] cannot set it: it bounds work as a whole, here a page of a hundred
/// messages of any size. The caller discards the connection after an error, as `within` does.
pub(super) async fn read(
    connection: &mut PgConnection,
    listener: &str,
    filter: &Filter,
    after: i64,
    limit: i64,
    bound: Duration,
    mut each: impl FnMut(DeadLetter) -> bool,
) -> Result<i64, sqlx::Error> {
    let mut query = select(listener, filter);
    query.push(" and seq > ").push_bind(after);
    query.push(" order by seq limit ").push_bind(limit);
    let mut rows = query.build_query_as().fetch(connection);
    let mut read = 0;
    loop {
        let next = tokio::time::timeout(bound, rows.try_next()).await;
        let Some(dead_letter) = next.unwrap_or_else(|_| Err(deadline::elapsed(bound)))? else {
            return Ok(read);
        };
        read += 1;
        if !each(dead_letter) {
            return Ok(read);
        }
    }
}

/// Dead letters to retry, at most `max`. Alternately one of those with the fewest attempts, so that many that keep failing do not
/// delay one that could be applied, and one of those that have waited longest, so that many new ones do not either. No index
/// has the first order: of a hundred thousand all are read, without their messages, in a fraction of a second.
pub(super) async fn to_retry(
    connection: &mut PgConnection,
    listener: &str,
    max: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "with fewest_attempts as (
             select id, attempts, retry_at, seq from dead_letter
             where listener = $1 and retry_at <= now() order by attempts, retry_at, seq limit $2
         ), longest_waiting as (
             select id, retry_at, seq from dead_letter where listener = $1 and retry_at <= now() order by retry_at, seq limit $2
         ), ranked as (
             select id, row_number() over (order by attempts, retry_at, seq) * 2 as rank from fewest_attempts
             union all
             select id, row_number() over (order by retry_at, seq) * 2 + 1 from longest_waiting
         )
         select id from ranked group by id order by min(rank) limit $2",
    )
    .bind(listener)
    .bind(max)
    .fetch_all(connection)
    .await
}

/// The number of dead letters of each kind.
pub(super) async fn count(
    connection: &mut PgConnection,
    listener: &str,
) -> Result<Vec<(Kind, i64)>, sqlx::Error> {
    let counts: Vec<(String, i64)> =
        sqlx::query_as("select kind, count(*) from dead_letter where listener = $1 group by kind")
            .bind(listener)
            .fetch_all(connection)
            .await?;
    counts
        .into_iter()
        .map(|(kind, count)| Ok((Kind::from_column(&kind)?, count)))
        .collect()
}
