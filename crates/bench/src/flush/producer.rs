//! Rows that a producer alone sends to the broker.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use uuid::Uuid;

use super::taken::Taken;

/// Rows that are sent one at a time, each after the acknowledgement of the one before.
const ALONE: usize = 300;
/// Rows that are sent as fast as the broker takes them.
pub(super) const BURST: usize = 20_000;
/// How long Kafka may take to acknowledge a row, in milliseconds.
const PATIENCE: &str = "30000";

/// A producer with the settings that Kafka Connect gives Debezium's.
pub(super) fn producer(broker: &str) -> Result<FutureProducer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("batch.size", "16384")
        .set("message.timeout.ms", PATIENCE)
        .create()?)
}

pub(super) async fn produce(producer: &FutureProducer, topic: &str) -> Result<Taken> {
    let mut alone = Vec::new();
    for _ in 0..ALONE {
        let row = Row::new();
        let began = Instant::now();
        row.send(producer, topic)?.await?;
        alone.push(began.elapsed());
    }
    alone.sort();
    let rows: Vec<Row> = (0..BURST).map(|_| Row::new()).collect();
    let began = Instant::now();
    let sent: Vec<_> = rows
        .iter()
        .map(|row| row.send(producer, topic))
        .collect::<Result<_>>()?;
    try_join_all(sent).await?;
    let burst = began.elapsed();
    Ok(Taken { alone, burst })
}

/// A row of an outbox, as the event router sends it.
struct Row {
    key: String,
    id: String,
    value: String,
}

impl Row {
    fn new() -> Self {
        let (order, id) = (Uuid::now_v7(), Uuid::now_v7());
        let value = json!({
            "event_id": id, "order_id": order, "item_id": Uuid::new_v4(), "quantity": 2,
            "estimated_price": 25, "placed_at": "2026-01-01T00:00:00.000000Z",
        });
        Self {
            key: order.to_string(),
            id: id.to_string(),
            value: value.to_string(),
        }
    }

    /// Sends it; the future resolves when the broker has acknowledged it.
    fn send(
        &self,
        producer: &FutureProducer,
        topic: &str,
    ) -> Result<impl Future<Output = Result<()>> + use<>> {
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let headers = OwnedHeaders::new()
            .insert(header("id", self.id.as_str()))
            .insert(header("event_type", "order.placed"));
        let record = FutureRecord::to(topic)
            .key(&self.key)
            .payload(&self.value)
            .headers(headers);
        let delivery = producer.send_result(record).map_err(|(error, _)| error)?;
        Ok(async move {
            let delivered = delivery.await.context("the producer is gone")?;
            delivered.map(drop).map_err(|(error, _)| error.into())
        })
    }
}
