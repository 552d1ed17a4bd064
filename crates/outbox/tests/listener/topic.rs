//! A Kafka topic: the records produced to it, and the committed offsets of a group.

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

/// A record to produce.
#[derive(Debug, Clone)]
pub(crate) struct NewRecord {
    /// None: bytes that do not decode to an event.
    pub(crate) event: Option<Uuid>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) partition: i32,
}

/// A record of the topic.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    /// The id of its inbox row.
    pub(crate) id: Uuid,
    pub(crate) decodes: bool,
}

#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    kafka: String,
    producer: FutureProducer,
    records: Arc<Mutex<Vec<Record>>>,
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
            // Keeps the order in which records are sent.
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        Self {
            name: name.to_owned(),
            partitions,
            kafka: kafka.to_owned(),
            producer,
            records: Arc::default(),
        }
    }

    /// Produces records in their order, and returns when all are acknowledged.
    pub(crate) async fn send(&self, records: Vec<NewRecord>, gap: Duration) {
        let mut deliveries = Vec::new();
        for new_record in records {
            // Set here, because the id of an undecodable message derives from it. Now, because retention deletes older records.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let timestamp = since.as_millis().try_into().unwrap();
            let mut message = Message {
                at: Position {
                    topic: self.name.clone(),
                    partition: new_record.partition,
                    offset: -1,
                },
                timestamp: Some(timestamp),
                key: new_record.key,
                headers: Vec::new(),
                value: Some(b"\xffno event".to_vec()),
            };
            if let Some(event) = new_record.event {
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
                .partition(new_record.partition)
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
            self.records.lock().unwrap().push(Record {
                partition: message.at.partition,
                offset: message.at.offset,
                key: message.key,
                id,
                decodes,
            });
        }
    }

    /// The acknowledged records, in the order of partitions and offsets.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = self.records.lock().unwrap().clone();
        records.sort_by_key(|message| (message.partition, message.offset));
        records
    }

    pub(crate) fn is_undecodable(&self, id: Uuid) -> bool {
        let records = self.records.lock().unwrap();
        records
            .iter()
            .any(|message| message.id == id && !message.decodes)
    }

    /// The end offset of each partition that has records.
    pub(crate) fn end_offsets(&self) -> BTreeMap<i32, i64> {
        let records = self.records();
        let ends = records.iter().map(|m| (m.partition, m.offset + 1));
        ends.collect()
    }

    /// The group's committed offsets.
    pub(crate) async fn committed_offsets(&self, group: &str) -> BTreeMap<i32, i64> {
        let (topic, group) = (self.clone(), group.to_owned());
        let fetch = move || {
            // The consumer asks the coordinator, without joining the group.
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
        tokio::task::spawn_blocking(fetch).await.unwrap()
    }
}
