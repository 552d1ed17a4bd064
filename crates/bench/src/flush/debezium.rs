//! Rows that are committed to an outbox and reach a consumer through Debezium.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sqlx::{ConnectOptions, PgConnection};
use stack::description::Description;
use stack::services::Topic;

use super::taken::Taken;

/// Rows that are committed one at a time, each after the arrival of the one before.
const ALONE: usize = 60;
/// Rows that are committed at once.
pub(super) const BURST: usize = 10_000;
/// How long a row may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way from the order context's outbox to a consumer, over topics of the benchmark's own.
pub(super) struct Hop {
    database: PgConnection,
    consumer: StreamConsumer,
}

impl Hop {
    /// Assigns all partitions of `topics`, which must exist, to a new consumer.
    pub(super) async fn new(stack: &Description, topics: &[Topic]) -> Result<Self> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &stack.kafka)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut all = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..topic.partitions {
                all.add_partition_offset(&topic.name, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&all)?;
        let mut database = stack.order_db.superuser().connect().await?;
        // The topics are the benchmark's own.
        sqlx::query("alter table outbox drop constraint outbox_topics")
            .execute(&mut database)
            .await?;
        Ok(Self { database, consumer })
    }

    pub(super) async fn carry(&mut self, topic: &str) -> Result<Taken> {
        let mut alone = Vec::new();
        for _ in 0..ALONE {
            alone.push(self.rows(topic, 1).await?);
        }
        alone.sort();
        let burst = self.rows(topic, BURST).await?;
        Ok(Taken { alone, burst })
    }

    /// Commits `count` rows in one transaction; returns the time from the commit to the arrival of the last row.
    async fn rows(&mut self, topic: &str, count: usize) -> Result<Duration> {
        // The event router sends a row to the topic that its aggregate type names.
        sqlx::query(
            "insert into outbox (id, aggregateid, aggregatetype, type, payload)
             select gen_random_uuid(), gen_random_uuid(), $1, 'order.placed',
                    jsonb_build_object('event_id', gen_random_uuid(), 'order_id', gen_random_uuid(),
                                       'item_id', gen_random_uuid(), 'quantity', 2, 'estimated_price', 25,
                                       'placed_at', '2026-01-01T00:00:00.000000Z')
             from generate_series(1, $2)",
        )
        .bind(topic)
        .bind(i64::try_from(count)?)
        .execute(&mut self.database)
        .await?;
        let committed = Instant::now();
        for _ in 0..count {
            tokio::time::timeout(PATIENCE, self.consumer.recv())
                .await
                .with_context(|| {
                    format!("no row arrived within {PATIENCE:?}; check the connector's status")
                })??;
        }
        Ok(committed.elapsed())
    }
}
