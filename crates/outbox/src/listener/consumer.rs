//! The Kafka consumer: owned messages, pause and resume, offsets.
//!
//! A thin layer over rdkafka's `StreamConsumer`, with the pitfalls of librdkafka that the listener has met:
//!
//! - Its rebalance callback must return quickly, so it only queues the change; the poll loop follows it ([`Consumer::changes`]).
//! - `pause` discards what was fetched ahead, and librdkafka remembers it across a revocation: the poll loop pauses only under
//!   lasting back-pressure, and resumes a partition as it goes.
//! - Looking up committed offsets, seeking and closing block on the network. They run outside the async runtime's threads, with a
//!   bound, and closing does not keep the process from ending.
//! - A consumer may end with no broker left to ask, once the only one that it knew was fenced and came back. Only a
//!   new consumer helps ([`Consumer::replace`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::assignment::NextOffset;
use super::config::Config;
use super::config::client::refused;
use super::consumer_context::{Change, Context, State};
use super::error::Error;
use super::lookup::{Lookup, Request};
use super::open_transaction::OpenTransaction;
use super::owned::owned;
use super::partition::Partition;
use crate::message::Message;

/// How long reading the committed offsets, a seek, or closing may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time without a broker after which a new consumer takes the place of the old one.
const REPLACE_AFTER: Duration = Duration::from_secs(15);
/// The most consumers that may be closing at the same time; each has its threads.
const MAX_CLOSING: usize = 4;

/// A member of a consumer group.
pub(super) struct Consumer {
    inner: Arc<StreamConsumer<Context>>,
    state: Arc<State>,
    config: Config,
    client: ClientConfig,
    /// When it joined the group, or when its replacement was last attempted.
    joined: Instant,
    /// The answer to the last lookup, until it is taken.
    lookup: Option<oneshot::Receiver<KafkaResult<Lookup>>>,
    /// Shared with the consumers that it has replaced and that are still closing.
    closing: Arc<()>,
}

impl Consumer {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        Self::with_client(config, config.client()?)
    }

    fn with_client(config: &Config, client: ClientConfig) -> Result<Self, Error> {
        let state = Arc::new(State::new());
        let inner = client
            .create_with_context(Context(Arc::clone(&state)))
            .map_err(refused)?;
        Ok(Self {
            inner: Arc::new(inner),
            state,
            config: config.clone(),
            client,
            joined: Instant::now(),
            lookup: None,
            closing: Arc::default(),
        })
    }

    /// Whether no broker has been connected for long, since this consumer joined the group.
    pub(super) fn lacks_broker(&self) -> bool {
        self.time_without_broker().min(self.joined.elapsed()) > REPLACE_AFTER
    }

    /// Takes a new consumer in the place of this one, which closes by itself. Returns whether it could.
    pub(super) fn replace(&mut self, reason: &str) -> bool {
        self.joined = Instant::now();
        if Arc::strong_count(&self.closing) > MAX_CLOSING {
            tracing::warn!(
                reason,
                "cannot replace the Kafka consumer while earlier ones are still closing; trying again"
            );
            return false;
        }
        tracing::warn!(reason, "replacing the Kafka consumer");
        let mut fresh = match self.recreate() {
            Ok(fresh) => fresh,
            Err(error) => {
                // For example a certificate's file that is just being replaced.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "cannot replace the Kafka consumer; keeping the old one"
                );
                return false;
            }
        };
        fresh.closing = Arc::clone(&self.closing);
        let old = std::mem::replace(self, fresh);
        tokio::spawn(old.close(BTreeMap::new()));
        true
    }

    /// A new member of the group, to take this one's place.
    fn recreate(&self) -> Result<Self, Error> {
        // This reads a changed secret. A file that is missing just now is no reason to stop.
        let client = self.config.client().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read a property's file; the new Kafka consumer keeps the old properties");
            self.client.clone()
        });
        let mut fresh = Self::with_client(&self.config, client)?;
        fresh.state.inherit(&self.state);
        fresh.subscribe()?;
        Ok(fresh)
    }

    /// For how long no broker was connected.
    pub(super) fn time_without_broker(&self) -> Duration {
        self.state.time_without_broker()
    }

    /// Messages of each partition that are still to be [received](Self::receive), as of the last statistics.
    pub(super) fn lag(&self) -> BTreeMap<Partition, u64> {
        self.state.lag()
    }

    /// The open Kafka transaction that has stood still for the longest time, of these partitions.
    pub(super) fn open_transaction(
        &self,
        partitions: &BTreeSet<Partition>,
    ) -> Option<OpenTransaction> {
        self.state.open_transaction(partitions)
    }

    /// Kafka's addresses.
    pub(super) fn bootstrap_servers(&self) -> &str {
        &self.config.bootstrap_servers
    }

    /// The error that keeps the consumer from its messages, if there is one.
    pub(super) fn error(&self) -> Option<String> {
        self.state.error()
    }

    /// Joins the group. Topics that do not exist yet are found by the refresh of the metadata, within seconds.
    pub(super) fn subscribe(&mut self) -> Result<(), Error> {
        self.joined = Instant::now();
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        self.inner.subscribe(&topics).map_err(Error::Config)
    }

    /// The changes of the assignment since the last call, oldest first.
    pub(super) fn changes(&self) -> Vec<Change> {
        self.state.changes()
    }

    /// Resolves when the assignment has changed.
    pub(super) async fn assignment_changed(&self) {
        self.state.changed().await;
    }

    /// The next message; none after an error that librdkafka recovers from.
    pub(super) async fn receive(&self) -> Result<Option<Message>, Error> {
        self.received(self.inner.recv().await)
    }

    /// A message that is fetched already.
    pub(super) fn receive_now(&self) -> Result<Option<Message>, Error> {
        let received = self.inner.recv().now_or_never();
        received.map_or(Ok(None), |received| self.received(received))
    }

    fn received(
        &self,
        received: KafkaResult<BorrowedMessage<'_>>,
    ) -> Result<Option<Message>, Error> {
        match received {
            Ok(message) => {
                self.state.set_error(None);
                Ok(Some(owned(&message)))
            }
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => Err(Error::Fatal(error)),
            Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
            )) => {
                tracing::info!(%code, "waiting for a topic that does not exist yet");
                self.state.set_error(Some(code.to_string()));
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "the Kafka consumer reports an error; librdkafka recovers by itself");
                // Brokers that are away show in the statistics.
                if let KafkaError::MessageConsumption(
                    code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::Authentication),
                ) = error
                {
                    self.state.set_error(Some(code.to_string()));
                }
                Ok(None)
            }
        }
    }

    /// Commits the offsets of the next messages to read.
    pub(super) fn commit(&self, offsets: &BTreeMap<Partition, NextOffset>, mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        for (Partition { topic, number }, next) in offsets {
            let offset = Offset::Offset(next.offset);
            if let Err(error) = list.add_partition_offset(topic, *number, offset) {
                tracing::warn!(%error, topic, partition = number, "cannot commit an offset; the next commit has it too");
            }
            if let Some(id) = &next.topic_id
                && let Some(mut element) = list.find_partition(topic, *number)
            {
                element.set_metadata(id.to_metadata());
            }
        }
        if list.count() > 0
            && let Err(error) = self.inner.commit(&list, mode)
        {
            tracing::warn!(%error, "cannot commit offsets; the next commit has them too");
        }
    }

    /// Pauses partitions. librdkafka discards the messages that it has fetched ahead, and fetches them again later.
    pub(super) fn pause<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) {
        if let Err(error) = self.inner.pause(&list(partitions)) {
            tracing::warn!(%error, "cannot pause partitions");
        }
    }

    /// Resumes partitions. Resuming one that runs discards what was fetched ahead too, so callers keep count.
    pub(super) fn resume<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) {
        if let Err(error) = self.inner.resume(&list(partitions)) {
            tracing::warn!(%error, "cannot resume partitions");
        }
    }

    /// The topics that it subscribes to by their names. A `^` begins a pattern.
    pub(super) fn topics(&self) -> impl Iterator<Item = String> {
        let topics = self.config.topics.iter();
        topics.filter(|topic| !topic.starts_with('^')).cloned()
    }

    /// Whether a lookup runs, or its answer is not taken yet.
    pub(super) fn awaits_lookup(&self) -> bool {
        self.lookup.is_some()
    }

    /// Starts a lookup. [`Self::assignment_changed`] resolves when its answer is there.
    pub(super) fn start_lookup(&mut self, request: Request) {
        let (inner, state) = (Arc::clone(&self.inner), Arc::clone(&self.state));
        let (answer, lookup) = oneshot::channel();
        self.lookup = Some(lookup);
        // Not `spawn_blocking`, as in `close`.
        std::thread::spawn(move || {
            let found = request.run(&inner, CONTROL_TIMEOUT);
            drop(inner);
            let _ = answer.send(found);
            state.notify();
        });
    }

    /// The answer to the last lookup, once it has ended.
    pub(super) fn ended_lookup(&mut self) -> Option<KafkaResult<Lookup>> {
        let answer = match self.lookup.as_mut()?.try_recv() {
            Ok(answer) => answer,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err(KafkaError::Canceled),
        };
        self.lookup = None;
        Some(answer)
    }

    /// Seeks to the beginning of a partition.
    pub(super) async fn restart(&self, partition: Partition) -> KafkaResult<()> {
        self.seek(move |_| {
            let mut offsets = list([&partition]);
            offsets.set_all_offsets(Offset::Beginning)?;
            Ok(offsets)
        })
        .await
    }

    /// Seeks to the group's committed offset, or to the beginning if there is none.
    pub(super) async fn rewind(&self, partition: Partition) -> KafkaResult<()> {
        self.seek(move |inner| {
            let offsets = inner.committed_offsets(list([&partition]), CONTROL_TIMEOUT)?;
            for mut element in offsets.elements_for_topic(&partition.topic) {
                if element.offset() == Offset::Invalid {
                    element.set_offset(Offset::Beginning)?;
                }
            }
            Ok(offsets)
        })
        .await
    }

    async fn seek(
        &self,
        offsets: impl FnOnce(&StreamConsumer<Context>) -> KafkaResult<TopicPartitionList>
        + Send
        + 'static,
    ) -> KafkaResult<()> {
        let inner = Arc::clone(&self.inner);
        let seek = tokio::task::spawn_blocking(move || {
            let offsets = inner.seek_partitions(offsets(&inner)?, CONTROL_TIMEOUT)?;
            offsets
                .elements()
                .iter()
                .try_for_each(TopicPartitionListElem::error)
        });
        seek.await
            .unwrap_or_else(|error| Err(KafkaError::Seek(error.to_string())))
    }

    /// Commits offsets and leaves the group. If Kafka is away, librdkafka takes long for both: this returns in time, and the
    /// process may end meanwhile.
    pub(super) async fn close(mut self, offsets: BTreeMap<Partition, NextOffset>) {
        let (closed, wait) = oneshot::channel();
        // Not `spawn_blocking`: the runtime would wait for it without bound when it ends.
        std::thread::spawn(move || {
            self.commit(&offsets, CommitMode::Sync);
            // It holds the client.
            if let Some(lookup) = self.lookup.take() {
                let _ = lookup.blocking_recv();
            }
            drop(self);
            let _ = closed.send(());
        });
        if tokio::time::timeout(CONTROL_TIMEOUT, wait).await.is_err() {
            tracing::warn!(
                "the Kafka consumer did not close in time; Kafka may deliver its last messages again"
            );
        }
    }
}

/// Partitions as librdkafka takes them.
fn list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for Partition { topic, number } in partitions {
        list.add_partition(topic, *number);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumer_is_recreated_with_its_old_secret_if_the_file_is_gone() {
        let path = std::env::temp_dir().join(format!("listener-key-{}", std::process::id()));
        std::fs::write(&path, "hunter2").unwrap();
        // No broker listens there.
        let mut config = Config::new("127.0.0.1:1", "till", "payment");
        config
            .property_files
            .insert("ssl.key.password".to_owned(), path.clone());
        let consumer = Consumer::new(&config).unwrap();
        std::fs::write(&path, "hunter3").unwrap();
        let recreated = consumer.recreate().unwrap();
        assert_eq!(recreated.client.get("ssl.key.password"), Some("hunter3"));
        std::fs::remove_file(&path).unwrap();
        let recreated = recreated.recreate().unwrap();
        assert_eq!(recreated.client.get("ssl.key.password"), Some("hunter3"));
        assert!(matches!(
            Consumer::new(&config),
            Err(Error::PropertyFile { .. })
        ));
    }
}
