//! The listener's metrics, under the facade `metrics`: names, labels and kinds. `docs/operations.md` says what they mean.
#![expect(
    clippy::cast_precision_loss,
    reason = "gauges and histograms are of floats"
)]

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::partition::Partition;

const SETTLED: &str = "outbox_listener_settled_total";
const DEAD_LETTERED: &str = "outbox_listener_dead_lettered_total";
const RETRIES: &str = "outbox_listener_retries_total";

/// Counters exist from the start, so that the first increment shows as a rise.
pub(super) fn start_counters(listener: &str) {
    for name in [SETTLED, DEAD_LETTERED, RETRIES] {
        counter!(name, "listener" => listener.to_owned()).increment(0);
    }
}

/// Counts messages that a committed transaction has settled for the first time, and how many of them became dead letters. A
/// redelivery counts in neither: the inbox knew it.
pub(super) fn add_settled(listener: &str, fresh: u64, dead_lettered: u64) {
    counter!(SETTLED, "listener" => listener.to_owned()).increment(fresh);
    counter!(DEAD_LETTERED, "listener" => listener.to_owned()).increment(dead_lettered);
}

/// Counts an attempt of a batch that is repeated: for a transient failure, or for an unknown one whose message is not isolated yet.
pub(super) fn add_retry(listener: &str) {
    counter!(RETRIES, "listener" => listener.to_owned()).increment(1);
}

/// Messages of a partition that the group has not settled, up to the high watermark: those that an open transaction hides count. A
/// partition that is revoked goes back to 0, since another worker shows it now.
pub(super) fn set_lag(listener: &str, partition: &Partition, messages: u64) {
    gauge!("outbox_listener_lag_messages", "listener" => listener.to_owned(),
        "topic" => partition.topic.clone(), "partition" => partition.number.to_string())
    .set(messages as f64);
}

/// The seconds for which a Kafka transaction has hidden messages of an assigned partition; 0 if none does.
pub(super) fn set_open_transaction(listener: &str, age: Duration) {
    gauge!("outbox_listener_open_transaction_seconds", "listener" => listener.to_owned())
        .set(age.as_secs_f64());
}

/// Partitions assigned to this worker. The sum over all workers is the number of partitions of the topics.
pub(super) fn set_partitions(listener: &str, partitions: usize) {
    gauge!("outbox_listener_partitions", "listener" => listener.to_owned()).set(partitions as f64);
}

/// Whether the circuit breaker keeps batches from being started: 1 while it is open, 0 while it is half-open or closed.
pub(super) fn set_breaker_open(listener: &str, open: bool) {
    gauge!("outbox_listener_breaker_open", "listener" => listener.to_owned()).set(u8::from(open));
}

/// Dead letters that are there now, by kind. Each worker of a listener counts the same table: take the maximum, not the sum.
pub(super) fn set_dead_letters(listener: &str, kind: &'static str, count: i64) {
    gauge!("outbox_listener_dead_letters", "listener" => listener.to_owned(), "kind" => kind)
        .set(count as f64);
}

/// Messages of one batch, as it was taken from the buffer.
pub(super) fn record_batch(listener: &str, messages: usize) {
    histogram!("outbox_listener_batch_messages", "listener" => listener.to_owned())
        .record(messages as f64);
}

/// How long the handler took for the events of one transaction.
pub(super) fn record_handler(listener: &str, took: Duration) {
    histogram!("outbox_listener_handler_seconds", "listener" => listener.to_owned()).record(took);
}

/// How long one transaction took, from its begin to its commit.
pub(super) fn record_transaction(listener: &str, took: Duration) {
    histogram!("outbox_listener_transaction_seconds", "listener" => listener.to_owned())
        .record(took);
}
