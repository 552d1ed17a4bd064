//! Topics of tests: created, deleted, and read as any consumer reads them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::services::Topic;

/// How long Kafka may take for one answer.
const WAIT: Duration = Duration::from_secs(15);

/// Creates the topics that do not exist.
///
/// # Errors
/// If Kafka refuses, or does not answer.
pub async fn create(kafka: &str, topics: &[Topic]) -> Result<()> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()?;
    let fresh: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let replication = TopicReplication::Fixed(topic.replication_factor);
            let fresh = NewTopic::new(&topic.name, topic.partitions, replication);
            topic
                .config
                .iter()
                .fold(fresh, |fresh, (key, value)| fresh.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    for created in admin.create_topics(&fresh, &options).await? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("Kafka does not create topic {topic}: {code}"),
        }
    }
    Ok(())
}

/// Deletes a topic, and returns once Kafka has none of its name.
///
/// # Errors
/// If Kafka refuses, or does not answer.
pub async fn delete(kafka: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()?;
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    for deleted in admin.delete_topics(&[topic], &options).await? {
        deleted.map_err(|(topic, code)| {
            anyhow::anyhow!("Kafka does not delete topic {topic}: {code}")
        })?;
    }
    while exists(kafka, topic)? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whether Kafka has a topic of this name.
///
/// # Errors
/// If Kafka does not answer.
pub fn exists(kafka: &str, topic: &str) -> Result<bool> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()?;
    let metadata = consumer
        .fetch_metadata(None, WAIT)
        .context("Kafka does not answer")?;
    Ok(metadata.topics().iter().any(|known| known.name() == topic))
}

/// A message of a topic.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Its key, as text.
    pub key: String,
    /// Its headers, as text, in their order.
    pub headers: Vec<(String, Option<String>)>,
    /// Its value, as text.
    pub value: String,
}

impl Carried {
    /// The header `id`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let header = self.headers.iter().find(|(name, _)| name == "id")?;
        header.1.as_deref()
    }
}

/// The messages of `topic` since a time in milliseconds (0 for all), in order within each partition.
///
/// # Errors
/// If the topic does not exist, or Kafka does not answer.
pub fn since(kafka: &str, topic: &str, millis: i64) -> Result<Vec<Carried>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer
        .fetch_metadata(Some(topic), WAIT)
        .context("Kafka does not answer")?;
    let mut times = TopicPartitionList::new();
    let mut unread = BTreeSet::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        times.add_partition_offset(topic, partition.id(), Offset::Offset(millis))?;
        unread.insert(partition.id());
    }
    consumer.assign(&consumer.offsets_for_times(times, WAIT)?)?;
    let mut carried = Vec::new();
    while !unread.is_empty() {
        let message = match consumer.poll(WAIT).context("Kafka does not answer")? {
            // The last offset would not do: it may be a transaction marker, which is not a message.
            Err(KafkaError::PartitionEOF(partition)) => {
                unread.remove(&partition);
                continue;
            }
            message => message?,
        };
        let (partition, offset) = (message.partition(), message.offset());
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let headers = headers
            .map(|header| {
                (
                    header.key.to_owned(),
                    header.value.map(|value| text(Some(value))),
                )
            })
            .collect();
        carried.push(Carried {
            partition,
            offset,
            timestamp: message.timestamp().to_millis().unwrap_or_default(),
            key: text(message.key()),
            headers,
            value: text(message.payload()),
        });
    }
    Ok(carried)
}

/// The number of offsets in `topic`: messages and transaction markers.
///
/// # Errors
/// If the topic does not exist, or Kafka does not answer.
pub fn count(kafka: &str, topic: &str) -> Result<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()?;
    let metadata = consumer
        .fetch_metadata(Some(topic), WAIT)
        .context("Kafka does not answer")?;
    let mut count = 0;
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        let (begin, end) = consumer.fetch_watermarks(topic, partition.id(), WAIT)?;
        count += end - begin;
    }
    Ok(count)
}
