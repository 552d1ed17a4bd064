//! The events that are consumed, in the form in which Debezium sends them.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use outbox::Event;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Messages on each topic.
pub(super) const MESSAGES: u64 = 50_000;

/// What is consumed.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub(super) enum Order {
    #[serde(rename = "order.placed")]
    Placed(Placed),
}

#[derive(Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "named as they travel")]
pub(super) struct Placed {
    pub(super) event_id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) item_id: Uuid,
    pub(super) quantity: i32,
    pub(super) estimated_price: i32,
    pub(super) placed_at: String,
}

/// What is published for each.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub(super) enum Reservation {
    #[serde(rename = "reservation.placed")]
    Placed(Reserved),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Reserved {
    pub(super) event_id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) product_id: Uuid,
    pub(super) quantity: i32,
}

impl Reserved {
    pub(super) fn of(placed: &Placed) -> Self {
        Self {
            event_id: Uuid::now_v7(),
            order_id: placed.order_id,
            product_id: placed.item_id,
            quantity: placed.quantity,
        }
    }
}

impl Event for Reservation {
    const AGGREGATE_TYPE: &'static str = "reservation";

    fn id(&self) -> Uuid {
        let Self::Placed(reserved) = self;
        reserved.event_id
    }

    fn aggregate_id(&self) -> String {
        let Self::Placed(reserved) = self;
        reserved.order_id.to_string()
    }
}

/// Sends [`MESSAGES`] messages to `topic`.
pub(super) async fn produce(kafka: &str, topic: &str, products: &[Uuid]) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true")
        .create()?;
    let mut sent = Vec::new();
    for (_, product) in (0..MESSAGES).zip(products.iter().cycle()) {
        let placed = Placed {
            event_id: Uuid::now_v7(),
            order_id: Uuid::now_v7(),
            item_id: *product,
            quantity: 1,
            estimated_price: 25,
            placed_at: "2026-01-01T00:00:00.000000Z".to_owned(),
        };
        let (key, id) = (placed.order_id.to_string(), placed.event_id.to_string());
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let headers = OwnedHeaders::new()
            .insert(header("id", id.as_str()))
            .insert(header("event_type", "order.placed"));
        let value = serde_json::to_string(&placed)?;
        let record = FutureRecord::to(topic)
            .key(&key)
            .payload(&value)
            .headers(headers);
        let delivery = producer.send_result(record).map_err(|(error, _)| error)?;
        sent.push(async move {
            let delivered = delivery.await.context("the producer is gone")?;
            delivered.map(drop).map_err(|(error, _)| error.into())
        });
    }
    try_join_all(sent).await.map(drop)
}
