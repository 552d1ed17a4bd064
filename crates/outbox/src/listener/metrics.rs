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

pub(super) fn add_settled(listener: &str, fresh: u64, dead_lettered: u64) {
    counter!(SETTLED, "listener" => listener.to_owned()).increment(fresh);
    counter!(DEAD_LETTERED, "listener" => listener.to_owned()).increment(dead_lettered);
}

pub(super) fn add_retry(listener: &str) {
    counter!(RETRIES, "listener" => listener.to_owned()).increment(1);
}

pub(super) fn set_lag(listener: &str, partition: &Partition, messages: u64) {
    gauge!("outbox_listener_lag_messages", "listener" => listener.to_owned(),
        "topic" => partition.topic.clone(), "partition" => partition.number.to_string())
    .set(messages as f64);
}

pub(super) fn set_open_transaction(listener: &str, age: Duration) {
    gauge!("outbox_listener_open_transaction_seconds", "listener" => listener.to_owned())
        .set(age.as_secs_f64());
}

pub(super) fn set_partitions(listener: &str, partitions: usize) {
    gauge!("outbox_listener_partitions", "listener" => listener.to_owned()).set(partitions as f64);
}

pub(super) fn set_breaker_open(listener: &str, open: bool) {
    gauge!("outbox_listener_breaker_open", "listener" => listener.to_owned()).set(u8::from(open));
}

pub(super) fn set_dead_letters(listener: &str, kind: &'static str, count: i64) {
    gauge!("outbox_listener_dead_letters", "listener" => listener.to_owned(), "kind" => kind)
        .set(count as f64);
}

pub(super) fn record_batch(listener: &str, messages: usize) {
    histogram!("outbox_listener_batch_messages", "listener" => listener.to_owned())
        .record(messages as f64);
}

pub(super) fn record_handler(listener: &str, took: Duration) {
    histogram!("outbox_listener_handler_seconds", "listener" => listener.to_owned()).record(took);
}

pub(super) fn record_transaction(listener: &str, took: Duration) {
    histogram!("outbox_listener_transaction_seconds", "listener" => listener.to_owned())
        .record(took);
}
