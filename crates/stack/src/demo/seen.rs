//! What the demo reads from databases and topics, and the texts for it.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::topic::Carried;

/// A row of an outbox.
pub(super) struct Row {
    pub(super) id: Uuid,
    seq: i64,
    event_type: String,
}

/// The one event about an order.
pub(super) async fn event(db: &mut PgConnection, order: Uuid) -> Result<Row> {
    let rows: Vec<(Uuid, i64, String)> =
        sqlx::query_as("select id, seq, type from outbox where aggregateid = $1")
            .bind(order.to_string())
            .fetch_all(db)
            .await?;
    match rows.as_slice() {
        [(id, seq, event_type)] => Ok(Row {
            id: *id,
            seq: *seq,
            event_type: event_type.clone(),
        }),
        other => bail!(
            "the outbox has {} events about order {order} instead of one",
            other.len()
        ),
    }
}

/// The time at which an inbox has settled an event.
pub(super) async fn settled_at(db: &mut PgConnection, event: Uuid) -> Result<DateTime<Utc>> {
    sqlx::query_scalar("select settled_at from inbox where id = $1")
        .bind(event)
        .fetch_one(db)
        .await
        .with_context(|| format!("event {event} is not in the inbox"))
}

/// The timestamp of a message.
pub(super) fn kafka_time(message: &Carried) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(message.timestamp).unwrap_or_default()
}

/// The text for a message that carries an outbox row.
pub(super) fn carried(topic: &str, row: &Row, message: &Carried) -> String {
    format!(
        "{} (outbox row {}) is on topic {topic}, partition {}, offset {}\n                 {}",
        row.event_type, row.seq, message.partition, message.offset, message.value
    )
}

/// The text for a product's stock before and after an order.
pub(super) fn fell(before: Option<i64>, after: Option<i64>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{before} -> {after}"),
        _ => "none before and after".to_owned(),
    }
}

/// The text for a rejected order's reason and facts.
pub(super) fn facts(shown: &Value) -> String {
    let fact = |name: &str| shown.get(name).map(|value| format!("{name} {value}"));
    match shown["reason"].as_str() {
        Some(reason) => {
            let facts: Vec<String> = ["estimated_price", "actual_price", "requested", "available"]
                .into_iter()
                .filter(|name| *name != "estimated_price" || reason == "price_mismatch")
                .filter_map(fact)
                .collect();
            format!(": {reason} {}", facts.join(", "))
                .trim_end()
                .to_owned()
        }
        None => String::new(),
    }
}
