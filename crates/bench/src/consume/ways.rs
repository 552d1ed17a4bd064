//! The ways to consume.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use futures::FutureExt;
use outbox::Outgoing;
use outbox::listener::{Config, DEFAULT_MAX_BATCH, Failure, Handler, Listener, Received};
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::postgres::PgTransaction;
use sqlx::{Acquire, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::database::apply;
use super::events::{MESSAGES, Order, Placed, Reservation, Reserved};
use super::pace::Pace;

/// Messages that [`Way::Singly`] reads.
const SINGLY: u64 = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// A consumer with the library's settings that only counts.
    Count,
    /// SQL by hand, a transaction for each batch.
    Hand,
    /// The library.
    Library,
    /// SQL by hand, a transaction for each message.
    Singly,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Count, Self::Hand, Self::Library, Self::Singly];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Count => "a consumer that only counts",
            Self::Hand => "the same set-based SQL by hand",
            Self::Library => "the library",
            Self::Singly => "SQL by hand, a transaction for each message",
        }
    }

    /// How many messages it reads.
    pub(super) fn messages(self) -> u64 {
        match self {
            Self::Singly => SINGLY,
            _ => MESSAGES,
        }
    }

    /// Reads the topic; returns the rate in messages a second.
    pub(super) async fn take(self, kafka: &str, topic: &str, pool: &PgPool) -> Result<f64> {
        let config = Config::new(kafka, &format!("{topic}-{self:?}"), topic);
        match self {
            Self::Count => count(&config).await,
            Self::Hand => by_hand(&config, DEFAULT_MAX_BATCH, self.messages(), pool).await,
            Self::Library => by_library(&config, pool).await,
            Self::Singly => by_hand(&config, 1, self.messages(), pool).await,
        }
    }
}

fn consumer(config: &Config) -> Result<StreamConsumer> {
    let consumer: StreamConsumer = config.client()?.create()?;
    let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics)?;
    Ok(consumer)
}

async fn count(config: &Config) -> Result<f64> {
    let (consumer, mut pace) = (consumer(config)?, Pace::default());
    for counted in 1..=MESSAGES {
        consumer.recv().await?;
        pace.record(counted);
    }
    pace.rate()
}

async fn by_hand(config: &Config, most: usize, messages: u64, pool: &PgPool) -> Result<f64> {
    let (consumer, mut pace) = (consumer(config)?, Pace::default());
    let mut connection = pool.acquire().await?;
    let mut settled = 0;
    while settled < messages {
        let (mut batch, mut next) = (Vec::new(), BTreeMap::new());
        let mut received = Some(consumer.recv().await);
        while let Some(message) = received {
            let message = message?;
            next.insert(message.partition(), message.offset() + 1);
            batch.push(decode(&message)?);
            received = if batch.len() < most {
                consumer.recv().now_or_never()
            } else {
                None
            };
        }
        settled += settle(&mut connection, &config.name, batch).await?;
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            offsets.add_partition_offset(&config.topics[0], partition, Offset::Offset(offset))?;
        }
        consumer.commit(&offsets, CommitMode::Async)?;
        pace.record(settled);
    }
    pace.rate()
}

fn decode(message: &BorrowedMessage<'_>) -> Result<Placed> {
    let value = message.payload().context("a message has no value")?;
    Ok(serde_json::from_slice(value)?)
}

/// Applies a batch in one transaction; returns how many of its messages were new.
async fn settle(connection: &mut PgConnection, name: &str, batch: Vec<Placed>) -> Result<u64> {
    let mut tx = connection.begin().await?;
    let ids: Vec<Uuid> = batch.iter().map(|placed| placed.event_id).collect();
    let fresh: Vec<Uuid> = sqlx::query_scalar(
        "insert into inbox (listener, id) select $1, id from unnest($2::uuid[]) as event (id)
         on conflict do nothing returning id",
    )
    .bind(name)
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let fresh: HashSet<Uuid> = fresh.into_iter().collect();
    let orders: Vec<&Placed> = batch
        .iter()
        .filter(|placed| fresh.contains(&placed.event_id))
        .collect();
    apply(&mut tx, &orders).await?;
    let reserved: Vec<Reserved> = orders.iter().map(|placed| Reserved::of(placed)).collect();
    let payloads: Result<Vec<String>, _> = reserved.iter().map(serde_json::to_string).collect();
    sqlx::query(
        "insert into outbox (id, aggregatetype, aggregateid, type, payload)
         select id, 'reservation', aggregateid, 'reservation.placed', payload::jsonb
         from unnest($1::uuid[], $2::text[], $3::text[]) as event (id, aggregateid, payload)",
    )
    .bind(reserved.iter().map(|of| of.event_id).collect::<Vec<_>>())
    .bind(
        reserved
            .iter()
            .map(|of| of.order_id.to_string())
            .collect::<Vec<_>>(),
    )
    .bind(payloads?)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(fresh.len().try_into()?)
}

/// The handler that the library calls.
struct Applying;

impl Handler for Applying {
    type Event = Order;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Order>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let orders: Vec<&Placed> = batch
            .iter()
            .map(|received| {
                let Order::Placed(placed) = &received.event;
                placed
            })
            .collect();
        apply(tx, &orders).await?;
        let events = orders.iter().map(|placed| Reserved::of(placed));
        let rows = events.map(|reserved| Outgoing::new(&Reservation::Placed(reserved)));
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

async fn by_library(config: &Config, pool: &PgPool) -> Result<f64> {
    let listener = Listener::new(config, pool.clone(), Applying)?;
    let (mut progress, shutdown) = (listener.progress(), CancellationToken::new());
    let listening = tokio::spawn(listener.run(shutdown.clone()));
    let (mut pace, mut settled) = (Pace::default(), 0);
    while settled < MESSAGES {
        progress.changed().await.context("the listener has ended")?;
        let now = progress.borrow_and_update().settled;
        if now > settled {
            settled = now;
            pace.record(settled);
        }
    }
    shutdown.cancel();
    listening.await??;
    pace.rate()
}
