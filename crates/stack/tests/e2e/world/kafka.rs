//! Topics: created, written, emptied and read by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use stack::services::Topic;
use stack::topic;
use uuid::Uuid;

use super::{World, eventually};

impl World {
    /// Creates a topic with six partitions.
    pub(crate) async fn create_topic(&self, name: &str) {
        let topic = Topic {
            name: name.to_owned(),
            partitions: 6,
            replication_factor: 1,
            config: BTreeMap::new(),
        };
        topic::create(&self.stack.kafka, &[topic]).await.unwrap();
    }

    /// Waits until the topic carries every order of the test.
    pub(crate) async fn orders_are_carried(&self) {
        let orders: Vec<String> = self.orders().iter().map(Uuid::to_string).collect();
        let placed: Vec<Uuid> = sqlx::query_scalar(
            "select id from outbox where aggregatetype = 'order' and aggregateid = any($1)",
        )
        .bind(&orders)
        .fetch_all(&self.order_db)
        .await
        .unwrap();
        let placed = placed.into_iter().collect();
        let within = Duration::from_secs(60);
        eventually(within, "the topic carries every order", async || match self
            .carried("order", &placed)
            .len()
        {
            carried if carried == orders.len() => Ok(()),
            carried => Err(format!("{carried} of {}", orders.len())),
        })
        .await;
    }

    /// Deletes every message of `topic`.
    pub(crate) async fn lose_messages(&self, topic: &str) {
        let admin: AdminClient<_> = ClientConfig::new()
            .set("bootstrap.servers", &self.stack.kafka)
            .create()
            .unwrap();
        let mut ends = TopicPartitionList::new();
        for partition in 0..6 {
            ends.add_partition_offset(topic, partition, Offset::End)
                .unwrap();
        }
        let lost = admin
            .delete_records(&ends, &AdminOptions::new())
            .await
            .unwrap();
        for partition in lost.elements() {
            partition.error().unwrap();
        }
    }

    /// Produces a message, as any other producer does.
    pub(crate) async fn produce(
        &self,
        topic: &str,
        key: Option<&str>,
        value: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.stack.kafka)
            // Debezium's partitioner; another one would send the same key to another partition.
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            });
        let mut record = FutureRecord::<str, [u8]>::to(topic).headers(headers);
        record.key = key;
        record.payload = value;
        producer
            .send(record, Duration::from_secs(30))
            .await
            .unwrap();
    }

    /// Those of `events` that `topic` carries, by key, in the order of their first delivery.
    pub(crate) fn carried(
        &self,
        topic: &str,
        events: &BTreeSet<Uuid>,
    ) -> BTreeMap<Uuid, Vec<Uuid>> {
        let mut carried: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for message in topic::since(&self.stack.kafka, topic, self.began).unwrap() {
            let id = message
                .id()
                .and_then(|id| id.parse().ok())
                .filter(|id| events.contains(id));
            if let (Some(id), Ok(key)) = (id, message.key.parse()) {
                let of_key = carried.entry(key).or_default();
                if !of_key.contains(&id) {
                    of_key.push(id);
                }
            }
        }
        carried
    }
}

/// A message value as the original demo's event router writes it: `JsonConverter` with schemas, and the event id only in
/// the payload.
pub(crate) fn original_envelope(payload: &Value) -> String {
    json!({
        "schema": { "type": "struct", "optional": false, "fields": [
            { "type": "string", "optional": false, "name": "io.debezium.data.Json", "version": 1, "field": "payload" },
            { "type": "string", "optional": true, "field": "event_type" }
        ] },
        "payload": { "payload": payload.to_string(), "event_type": "order.placed" }
    })
    .to_string()
}
