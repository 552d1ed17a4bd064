//! The lookup of the topics' ids and of the committed offsets, in a thread of its own: it blocks on the network.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::consumer_context::Context;
use super::partition::Partition;
use super::topic_id::{Described, TopicId, describe};

/// What is looked up.
#[derive(Debug)]
pub(super) struct Request {
    /// The version of the assignment that it is for.
    pub(super) version: u64,
    pub(super) topics: BTreeSet<String>,
    /// The assigned partitions whose topic is not known yet.
    pub(super) partitions: BTreeSet<Partition>,
}

/// What is committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Committed {
    /// The consumer begins at the beginning.
    Nothing,
    /// An offset, and the id of the topic in which it was reached, if it was committed with one.
    Offset(Option<TopicId>),
}

/// What a lookup found.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The version of the assignment that it was for.
    pub(super) version: u64,
    pub(super) topics: BTreeMap<String, Described>,
    /// Of each partition whose topic was not known yet.
    pub(super) committed: BTreeMap<Partition, Committed>,
}

impl Request {
    /// Asks Kafka.
    pub(super) fn run(
        self,
        consumer: &StreamConsumer<Context>,
        timeout: Duration,
    ) -> KafkaResult<Lookup> {
        let topics: Vec<String> = self.topics.into_iter().collect();
        let topics = describe(consumer.client(), &topics, timeout)?;
        let mut committed = BTreeMap::new();
        if !self.partitions.is_empty() {
            let mut list = TopicPartitionList::new();
            for Partition { topic, number } in &self.partitions {
                list.add_partition(topic, *number);
            }
            let offsets = consumer.committed_offsets(list, timeout)?;
            for element in offsets.elements() {
                element.error()?;
                let partition = Partition {
                    topic: element.topic().to_owned(),
                    number: element.partition(),
                };
                let offset = match element.offset() {
                    Offset::Offset(_) => {
                        // rdkafka panics on text that is not UTF-8.
                        let id = catch_unwind(AssertUnwindSafe(|| {
                            TopicId::from_metadata(element.metadata())
                        }));
                        Committed::Offset(id.unwrap_or_default())
                    }
                    _ => Committed::Nothing,
                };
                committed.insert(partition, offset);
            }
        }
        Ok(Lookup {
            version: self.version,
            topics,
            committed,
        })
    }
}
