//! Dead letters as rows.

use futures::TryStreamExt;
use sqlx::postgres::{PgRow, PgTransaction};
use sqlx::{FromRow, PgConnection, PgPool, QueryBuilder, Row};
use tokio::time::timeout;
use uuid::Uuid;

use super::Kind;
use super::redrive::in_time;
use crate::listener::batch::TRANSACTION_TIMEOUT;
use crate::message::{Message, Position};

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event's id, by which the inbox knows it.
    pub id: Uuid,
    /// The order in which the listener put dead letters aside.
    pub seq: i64,
    /// Why it was dead-lettered.
    pub kind: Kind,
    /// What went wrong when it was last tried.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was dead-lettered: UTC, as in RFC 3339.
    pub dead_lettered_at: String,
    /// Seconds since then.
    pub age_s: u64,
    /// When it is tried again by itself, if it is: UTC, as in RFC 3339.
    pub retry_at: Option<String>,
    /// Whether it is the first of its key, or has none: then it can be tried.
    pub first: bool,
    /// The message, whole.
    pub message: Message,
}

impl DeadLetter {
    /// The event's type, if the message names one.
    #[must_use]
    pub fn event_type(&self) -> Option<String> {
        self.message.open().ok().map(|opened| opened.event_type)
    }
}

/// Which dead letters; what is not given lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// This one.
    pub id: Option<Uuid>,
    /// Of this topic.
    pub topic: Option<String>,
    /// Of this key.
    pub key: Option<Vec<u8>>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this event type. It is read from each message.
    pub event_type: Option<String>,
    /// Put aside at least so many seconds ago.
    pub older_than_s: Option<u64>,
}

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

impl FromRow<'_, PgRow> for DeadLetter {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let names: Vec<String> = row.try_get("header_names")?;
        let values: Vec<Option<Vec<u8>>> = row.try_get("header_values")?;
        Ok(Self {
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            kind: Kind::of_column(row.try_get("kind")?)?,
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

/// Dead letters asked for at once. They are read one by one: each may be as large as a message.
const PAGE: i64 = 100;

/// How many there are of each kind.
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
        .map(|(kind, count)| Ok((Kind::of_column(&kind)?, count)))
        .collect()
}

pub(super) async fn list<T>(
    pool: &PgPool,
    listener: &str,
    filter: &Filter,
    most: usize,
    mut of: impl FnMut(DeadLetter) -> Option<T>,
) -> Result<Vec<T>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let (mut found, mut after, mut whole) = (Vec::new(), 0, true);
    // An event type is read from the dead letters themselves, and `of` makes something of some: nobody knows how many it takes.
    let mut all_count = filter.event_type.is_none();
    // A page that is not whole is the last.
    while found.len() < most && whole {
        let (before, left) = (found.len(), most - found.len());
        let page = match i64::try_from(left) {
            Ok(left) if all_count => left.min(PAGE),
            _ => PAGE,
        };
        let mut query = select(listener, filter);
        query.push(" and seq > ").push_bind(after);
        query.push(" order by seq limit ").push_bind(page);
        let mut dead_letters = query.build_query_as().fetch(&mut *connection);
        let mut read: i64 = 0;
        while found.len() < most {
            let next = match timeout(TRANSACTION_TIMEOUT, dead_letters.try_next()).await {
                Ok(next) => next?,
                Err(elapsed) => {
                    std::mem::drop(dead_letters);
                    return in_time(connection, Err(elapsed));
                }
            };
            let Some(dead_letter) = next else { break };
            let dead_letter: DeadLetter = dead_letter;
            (after, read) = (dead_letter.seq, read + 1);
            if filter.event_type.is_none() || dead_letter.event_type() == filter.event_type {
                found.extend(of(dead_letter));
            }
        }
        whole = read == page;
        all_count &= i64::try_from(found.len() - before) == Ok(read);
    }
    Ok(found)
}

fn select<'a>(listener: &'a str, filter: &'a Filter) -> QueryBuilder<sqlx::Postgres> {
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
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds, at most some years of them"
        )]
        let seconds = seconds as f64;
        query
            .push(" and dead_lettered_at <= now() - make_interval(secs => ")
            .push_bind(seconds)
            .push(")");
    }
    query
}

/// Locks a dead letter, if it is there; with `patient` false, one that somebody holds is passed over, and so is one that is not due:
/// somebody may have tried it since.
pub(super) async fn lock(
    tx: &mut PgTransaction<'_>,
    listener: &str,
    id: Uuid,
    patient: bool,
) -> Result<Option<DeadLetter>, sqlx::Error> {
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    let mut query = select(listener, &filter);
    query.push(if patient {
        " for update of dead_letter"
    } else {
        " and retry_at <= now() for update of dead_letter skip locked"
    });
    query.build_query_as().fetch_optional(&mut **tx).await
}
