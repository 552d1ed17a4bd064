//! A topic of real Kafka: what is sent to it, and how far a group has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outbox::message::{Message, Position};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;
use uuid::Uuid;

const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// A message to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    /// None: bytes that are no event.
    pub(crate) event: Option<Uuid>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) partition: i32,
}

/// A message that the topic carries.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    /// Under which the inbox is to know it.
    pub(crate) id: Uuid,
    pub(crate) decodes: bool,
}

#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    kafka: String,
    producer: FutureProducer,
    carried: Arc<Mutex<Vec<Carried>>>,
}

impl Topic {
    pub(crate) async fn create(kafka: &str, name: &str, partitions: i32) -> Self {
        let topic = stack::services::Topic {
            name: name.to_owned(),
            partitions,
            replication_factor: 1,
            config: BTreeMap::new(),
        };
        stack::topic::create(kafka, &[topic]).await.unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            // What is sent in a row stands in that order.
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        Self {
            name: name.to_owned(),
            partitions,
            kafka: kafka.to_owned(),
            producer,
            carried: Arc::default(),
        }
    }

    /// Sends messages in their order, and returns when the topic carries them.
    pub(crate) async fn send(&self, sendings: Vec<Sending>, gap: Duration) {
        let mut deliveries = Vec::new();
        for sending in sendings {
            // Kafka keeps it, so the id of what has none is known. One long ago would be deleted at the broker's next look.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let timestamp = since.as_millis().try_into().unwrap();
            let mut message = Message {
                at: Position {
                    topic: self.name.clone(),
                    partition: sending.partition,
                    offset: -1,
                },
                timestamp: Some(timestamp),
                key: sending.key,
                headers: Vec::new(),
                value: Some(b"\xffno event".to_vec()),
            };
            if let Some(event) = sending.event {
                let headers = [
                    ("id", event.to_string()),
                    ("event_type", "note.taken".to_owned()),
                ];
                message.headers = headers
                    .map(|(name, value)| (name.to_owned(), Some(value.into_bytes())))
                    .to_vec();
                message.value = Some(json!({ "event_id": event }).to_string().into_bytes());
            }
            let headers =
                message
                    .headers
                    .iter()
                    .fold(OwnedHeaders::new(), |headers, (key, value)| {
                        let value = value.as_deref();
                        headers.insert(Header { key, value })
                    });
            let mut record = FutureRecord::<[u8], [u8]>::to(&self.name)
                .partition(sending.partition)
                .timestamp(timestamp)
                .headers(headers);
            record.key = message.key.as_deref();
            record.payload = message.value.as_deref();
            let delivery = self.producer.send_result(record);
            let delivery = delivery.map_err(|(error, _)| error).unwrap();
            deliveries.push((delivery, message));
            tokio::time::sleep(gap).await;
        }
        for (delivery, mut message) in deliveries {
            let delivered = delivery.await.unwrap();
            message.at.offset = delivered.map_err(|(error, _)| error).unwrap().offset;
            let (id, decodes) = match message.decode() {
                Ok(decoded) => (decoded.id, true),
                Err((id, _)) => (id, false),
            };
            self.carried.lock().unwrap().push(Carried {
                partition: message.at.partition,
                offset: message.at.offset,
                key: message.key,
                id,
                decodes,
            });
        }
    }

    /// What the topic carries, in the order of partitions and offsets; what is just being sent may be missing.
    pub(crate) fn carried(&self) -> Vec<Carried> {
        let mut carried = self.carried.lock().unwrap().clone();
        carried.sort_by_key(|message| (message.partition, message.offset));
        carried
    }

    pub(crate) fn is_undecodable(&self, id: Uuid) -> bool {
        let carried = self.carried.lock().unwrap();
        carried
            .iter()
            .any(|message| message.id == id && !message.decodes)
    }

    /// The offset after the last message of each partition that has some.
    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        let carried = self.carried();
        let ends = carried.iter().map(|m| (m.partition, m.offset + 1));
        ends.collect()
    }

    /// The group's committed offsets.
    pub(crate) async fn committed(&self, group: &str) -> BTreeMap<i32, i64> {
        let (topic, group) = (self.clone(), group.to_owned());
        let look = move || {
            // It asks the coordinator, and is no member.
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &topic.kafka)
                .set("group.id", &group)
                .create()
                .unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&topic.name, 0, topic.partitions - 1);
            let committed = consumer.committed_offsets(list, CONTROL_TIMEOUT).unwrap();
            let elements = committed.elements();
            let known = elements
                .iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                });
            known.collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap()
    }
}
