//! What librdkafka reports: rebalances, statistics, errors and log lines.
//!
//! Its callbacks run on the thread that polls, or on one of librdkafka's own, and must return quickly. They only write to the
//! [`State`], which the poll loop reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use tokio::sync::Notify;

use super::open_transaction::{OpenTransaction, OpenTransactions};
use super::partition::Partition;

/// A change of the assignment.
#[derive(Debug)]
pub(super) enum Change {
    Assigned(BTreeSet<Partition>),
    Revoked(BTreeSet<Partition>),
    /// The whole assignment is gone.
    Lost,
}

/// The state that librdkafka's callbacks write and the poll loop reads.
pub(super) struct State {
    changes: Mutex<Vec<Change>>,
    changed: Notify,
    /// When a broker was last connected.
    last_broker: Mutex<Instant>,
    /// Messages of each partition that are still to be received.
    lag: Mutex<BTreeMap<Partition, u64>>,
    open_transactions: Mutex<OpenTransactions>,
    /// The last error that keeps the consumer from its messages.
    error: Mutex<Option<String>>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            changes: Mutex::default(),
            changed: Notify::new(),
            last_broker: Mutex::new(Instant::now()),
            lag: Mutex::default(),
            open_transactions: Mutex::default(),
            error: Mutex::default(),
        }
    }

    /// The changes of the assignment since the last call, oldest first.
    pub(super) fn changes(&self) -> Vec<Change> {
        std::mem::take(&mut *lock(&self.changes))
    }

    /// Resolves when the assignment has changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Makes [`Self::changed`] resolve: there is something to follow.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// For how long no broker has been connected, as of the last statistics.
    pub(super) fn time_without_broker(&self) -> Duration {
        lock(&self.last_broker).elapsed()
    }

    /// Takes over when a broker was last connected: a new consumer is as far from one as the old one was.
    pub(super) fn inherit(&self, old: &Self) {
        *lock(&self.last_broker) = *lock(&old.last_broker);
    }

    /// Messages of each partition that are still to be received, as of the last statistics.
    pub(super) fn lag(&self) -> BTreeMap<Partition, u64> {
        lock(&self.lag).clone()
    }

    /// The open transaction that has stood still for the longest time, of these partitions.
    pub(super) fn open_transaction(
        &self,
        partitions: &BTreeSet<Partition>,
    ) -> Option<OpenTransaction> {
        lock(&self.open_transactions).oldest(partitions)
    }

    /// The last error that keeps the consumer from its messages.
    pub(super) fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    /// Records such an error, or that there is none any more.
    pub(super) fn set_error(&self, error: Option<String>) {
        *lock(&self.error) = error;
    }
}

/// The callbacks hold no lock while they may panic.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The callbacks' receiver.
pub(super) struct Context(pub(super) std::sync::Arc<State>);

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let mut brokers = statistics.brokers.values();
        if brokers.any(|broker| broker.state == "UP") {
            *lock(&self.0.last_broker) = Instant::now();
        }
        let now = Instant::now();
        let mut lag = lock(&self.0.lag);
        let mut open_transactions = lock(&self.0.open_transactions);
        for (topic, statistics) in statistics.topics {
            for (number, statistics) in statistics.partitions {
                if number < 0 {
                    continue;
                }
                let partition = Partition {
                    topic: topic.clone(),
                    number,
                };
                // Fetched messages are counted; of the others only offsets are known. They end at the high watermark: an open
                // transaction hides those behind the last stable offset, and they wait all the same. -1001 stands for no offset.
                let fetched = u64::try_from(statistics.fetchq_cnt).unwrap_or_default();
                let unfetched = if statistics.next_offset >= 0 {
                    statistics.hi_offset - statistics.next_offset
                } else {
                    0
                };
                let waiting = fetched + u64::try_from(unfetched).unwrap_or_default();
                open_transactions.observe(&partition, &statistics, now);
                lag.insert(partition, waiting);
            }
        }
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
        tracing::warn!(%error, reason, "the Kafka client reports an error; librdkafka recovers by itself");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => {
                let assigned = partitions(list);
                if !assigned.is_empty() {
                    self.0.set_error(None);
                }
                Change::Assigned(assigned)
            }
            Rebalance::Revoke(list) => Change::Revoked(partitions(list)),
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the rebalance failed; giving up the assignment");
                Change::Lost
            }
        };
        lock(&self.0.changes).push(change);
        self.0.changed.notify_one();
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The messages are settled: delivering them again changes nothing.
            tracing::warn!(%error, "cannot commit offsets; the next commit has them too");
        }
    }
}

/// Partitions as the listener names them.
fn partitions(list: &TopicPartitionList) -> BTreeSet<Partition> {
    let elements = list.elements();
    let partitions = elements.iter().map(|element| Partition {
        topic: element.topic().to_owned(),
        number: element.partition(),
    });
    partitions.collect()
}
