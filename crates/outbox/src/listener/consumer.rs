//! The Kafka consumer: owned messages, the assignment as it changes, offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Notify, oneshot};

use super::config::refused;
use super::ledger::Partition;
use super::{Config, Error};
use crate::message::{Message, Position};

/// How long a look at the group's committed offsets, or a seek, may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// A change of the assignment.
pub(super) enum Change {
    Assigned(BTreeSet<Partition>),
    Revoked(BTreeSet<Partition>),
    /// The assignment is gone, whatever it was.
    Lost,
}

struct Assignments {
    changes: Mutex<Vec<Change>>,
    changed: Notify,
    /// When a broker was last known to be there.
    reached: Mutex<Instant>,
    /// Messages of each partition that wait for `receive`.
    lag: Mutex<BTreeMap<Partition, u64>>,
    /// What the consumer was last told that keeps it from its messages.
    trouble: Mutex<Option<String>>,
}

struct Context(Arc<Assignments>);

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        if statistics
            .brokers
            .values()
            .any(|broker| broker.state == "UP")
        {
            *lock(&self.0.reached) = Instant::now();
        }
        let mut lag = lock(&self.0.lag);
        for (name, topic) in statistics.topics {
            for (number, partition) in topic.partitions {
                // What is fetched is counted; of the rest only the offsets are known. -1001 is no offset.
                let fetched = u64::try_from(partition.fetchq_cnt).unwrap_or_default();
                let unfetched = if partition.next_offset >= 0 {
                    partition.ls_offset - partition.next_offset
                } else {
                    0
                };
                let waiting = fetched + u64::try_from(unfetched).unwrap_or_default();
                lag.insert((name.clone(), number), waiting);
            }
        }
        lag.retain(|(_, number), _| *number >= 0);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client error");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => {
                let assigned = partitions(list);
                if !assigned.is_empty() {
                    *lock(&self.0.trouble) = None;
                }
                Change::Assigned(assigned)
            }
            Rebalance::Revoke(list) => Change::Revoked(partitions(list)),
            Rebalance::Error(error) => {
                tracing::warn!(%error, "rebalance failed");
                Change::Lost
            }
        };
        let mut changes = lock(&self.0.changes);
        changes.push(change);
        self.0.changed.notify_one();
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The messages are settled; they may come again, which changes nothing.
            tracing::warn!(%error, "offsets not committed");
        }
    }
}

/// What a callback of librdkafka shares; it holds no lock while it may panic.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn partitions(list: &TopicPartitionList) -> BTreeSet<Partition> {
    let elements = list.elements();
    let named = elements
        .iter()
        .map(|e| (e.topic().to_owned(), e.partition()));
    named.collect()
}

fn list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, number) in partitions {
        list.add_partition(topic, *number);
    }
    list
}

/// A member of a consumer group.
pub(super) struct Consumer {
    inner: Arc<StreamConsumer<Context>>,
    assignments: Arc<Assignments>,
    config: Config,
    client: ClientConfig,
}

impl Consumer {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        Self::with(config, config.client()?)
    }

    fn with(config: &Config, client: ClientConfig) -> Result<Self, Error> {
        let assignments = Arc::new(Assignments {
            changes: Mutex::default(),
            changed: Notify::new(),
            reached: Mutex::new(Instant::now()),
            lag: Mutex::default(),
            trouble: Mutex::default(),
        });
        let inner = client
            .create_with_context(Context(Arc::clone(&assignments)))
            .map_err(refused)?;
        Ok(Self {
            inner: Arc::new(inner),
            assignments,
            config: config.clone(),
            client,
        })
    }

    /// Another member of the group, in place of this one.
    pub(super) fn again(&self) -> Result<Self, Error> {
        // A secret that was changed is read anew; one that cannot be read just now is no reason to end.
        let client = self.config.client().unwrap_or_else(|error| {
            tracing::warn!(%error, "the Kafka consumer begins again with the properties that it had");
            self.client.clone()
        });
        let fresh = Self::with(&self.config, client)?;
        // To whoever looks on, the broker is as far away as before.
        let reached = *lock(&self.assignments.reached);
        *lock(&fresh.assignments.reached) = reached;
        fresh.subscribe()?;
        Ok(fresh)
    }

    /// For how long no broker has been reached.
    pub(super) fn unreached(&self) -> Duration {
        lock(&self.assignments.reached).elapsed()
    }

    /// Messages of each partition that wait for [`receive`](Self::receive), as of the last statistics.
    pub(super) fn lag(&self) -> BTreeMap<Partition, u64> {
        lock(&self.assignments.lag).clone()
    }

    pub(super) fn subscribe(&self) -> Result<(), Error> {
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        self.inner.subscribe(&topics).map_err(Error::Config)
    }

    /// The changes of the assignment since the last call, oldest first.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = lock(&self.assignments.changes);
        std::mem::take(&mut *changes)
    }

    /// Resolves when the assignment has changed.
    pub(super) async fn changed(&self) {
        self.assignments.changed.notified().await;
    }

    /// The next message; none where librdkafka told of an error that it recovers from by itself.
    pub(super) async fn receive(&self) -> Result<Option<Message>, Error> {
        self.own(self.inner.recv().await)
    }

    /// A message that is there already.
    pub(super) fn receive_now(&self) -> Result<Option<Message>, Error> {
        let received = self.inner.recv().now_or_never();
        received.map_or(Ok(None), |received| self.own(received))
    }

    /// What keeps the consumer from its messages, as far as it was told.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.assignments.trouble).clone()
    }

    fn own(&self, received: KafkaResult<BorrowedMessage<'_>>) -> Result<Option<Message>, Error> {
        let mut trouble = lock(&self.assignments.trouble);
        match received {
            Ok(message) => {
                *trouble = None;
                Ok(Some(owned(&message)))
            }
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => Err(Error::Fatal(error)),
            Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
            )) => {
                tracing::info!(%code, "a topic is not there yet; waiting for it");
                *trouble = Some(code.to_string());
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "kafka consumer error; librdkafka goes on by itself");
                // A broker that is away shows by itself, and comes back without a word.
                if let KafkaError::MessageConsumption(
                    code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::Authentication),
                ) = error
                {
                    *trouble = Some(code.to_string());
                }
                Ok(None)
            }
        }
    }

    /// Commits the offsets of the next messages to read.
    pub(super) fn commit(&self, next: &BTreeMap<Partition, i64>, mode: CommitMode) {
        let mut offsets = TopicPartitionList::new();
        for ((topic, number), offset) in next {
            if let Err(error) =
                offsets.add_partition_offset(topic, *number, Offset::Offset(*offset))
            {
                tracing::warn!(%error, topic, partition = number, "offset not committed");
            }
        }
        if offsets.count() > 0
            && let Err(error) = self.inner.commit(&offsets, mode)
        {
            tracing::warn!(%error, "offsets not committed");
        }
    }

    /// Pauses partitions; messages fetched ahead are thrown away and fetched again later.
    pub(super) fn pause<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) {
        if let Err(error) = self.inner.pause(&list(partitions)) {
            tracing::warn!(%error, "partitions not paused");
        }
    }

    pub(super) fn resume<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) {
        if let Err(error) = self.inner.resume(&list(partitions)) {
            tracing::warn!(%error, "partitions not resumed");
        }
    }

    /// Goes back to the group's committed offset, or to the beginning where there is none.
    pub(super) async fn rewind(&self, partition: Partition) -> KafkaResult<()> {
        let inner = Arc::clone(&self.inner);
        let looked_up = tokio::task::spawn_blocking(move || {
            let mut offsets = inner.committed_offsets(list([&partition]), CONTROL_TIMEOUT)?;
            for mut element in offsets.elements_for_topic(&partition.0) {
                if element.offset() == Offset::Invalid {
                    element.set_offset(Offset::Beginning)?;
                }
            }
            offsets = inner.seek_partitions(offsets, CONTROL_TIMEOUT)?;
            offsets
                .elements()
                .iter()
                .try_for_each(TopicPartitionListElem::error)
        });
        looked_up
            .await
            .unwrap_or_else(|error| Err(KafkaError::Seek(error.to_string())))
    }

    /// Commits what was settled last, and leaves the group. Where Kafka is away, both take librdkafka long: the caller
    /// need not wait, and the process may end meanwhile.
    pub(super) async fn close(self, next: BTreeMap<Partition, i64>, closing: Arc<()>) {
        let (closed, wait) = oneshot::channel();
        // Not `spawn_blocking`: the runtime would wait for it without bound when it ends.
        std::thread::spawn(move || {
            self.commit(&next, CommitMode::Sync);
            drop(self);
            drop(closing);
            let _ = closed.send(());
        });
        if tokio::time::timeout(CONTROL_TIMEOUT, wait).await.is_err() {
            tracing::warn!(
                "the Kafka consumer does not close in time; its messages may come again"
            );
        }
    }
}

fn owned(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header = |index| {
            // rdkafka panics on a name that is not UTF-8.
            catch_unwind(AssertUnwindSafe(|| {
                let header = headers.get(index);
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            }))
            .unwrap_or_else(|_| (format!("unreadable name of header {index}"), None))
        };
        (0..headers.count()).map(header).collect()
    });
    Message {
        at: Position {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        value: message.payload().map(<[u8]>::to_vec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumer_begins_again_though_the_file_of_a_secret_is_gone() {
        let path = std::env::temp_dir().join(format!("listener-key-{}", std::process::id()));
        std::fs::write(&path, "hunter2").unwrap();
        // Nobody listens there.
        let mut config = Config::new("127.0.0.1:1", "till", "payment");
        config
            .property_files
            .insert("ssl.key.password".to_owned(), path.clone());
        let consumer = Consumer::new(&config).unwrap();
        std::fs::write(&path, "hunter3").unwrap();
        let again = consumer.again().unwrap();
        assert_eq!(again.client.get("ssl.key.password"), Some("hunter3"));
        std::fs::remove_file(&path).unwrap();
        let again = again.again().unwrap();
        assert_eq!(again.client.get("ssl.key.password"), Some("hunter3"));
        assert!(matches!(
            Consumer::new(&config),
            Err(Error::PropertyFile { .. })
        ));
    }
}
