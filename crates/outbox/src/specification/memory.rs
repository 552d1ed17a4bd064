//! Bytes that a connector holds in Kafka Connect's heap, all derived from the heap and the largest event.
//!
//! Debezium's and Kafka's own bounds count rows: 10,240 in a fetch, 8,192 in the queue, 2,048 in a batch. With rows of 900 kB the worker runs
//! out of memory, and a lost slot never heals.

/// The largest request of the producer, and with it the largest event: Kafka's own limit (`max.message.bytes`, 1 MiB and 12 bytes).
/// `outbox_payload_size` keeps a row's payload below it in either form on the wire, with space for type, key, headers and the envelope's
/// schema; each topic's own limit follows from it.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// What a topic's limit counts besides: it is one of batches, whose smallest has one message. The brokers' default is the sum.
pub(super) const BATCH_OVERHEAD: usize = 12;

/// The heap of a worker of Kafka Connect that runs [`CONNECTORS`] of them, as both ways to run set it.
const HEAP_BYTES: usize = 512 * 1024 * 1024;
/// What the worker itself needs, with its connectors idle (measured: 113 MB live after a collection).
const WORKER_BYTES: usize = 128 * 1024 * 1024;
const CONNECTORS: usize = 2;

/// Rows that the driver fetches at once when it reads the outbox again.
const FETCH_ROWS: usize = 16;
/// What Debezium's queue holds, as Debezium counts it: UTF-8.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Rows that Debezium's queue holds, as long as they are small.
const QUEUE_ROWS: usize = 8192;
/// Rows that Kafka Connect takes at once, and with `exactly_once` the rows of a transaction: with 32, 20,000 rows took 31 s instead of 6.
const BATCH_ROWS: usize = 512;
/// What the producer holds of unacknowledged events.
const PRODUCER_BYTES: usize = 8 * 1024 * 1024;

/// The most that a connector holds, were each row as large as can be. Java keeps a text in which one character is beyond Latin-1 as UTF-16,
/// twice its bytes.
const CONNECTOR_BYTES: usize = {
    // The driver keeps the rows of a fetch, as bytes, until it has those of the next.
    let fetch = 2 * FETCH_ROWS * MAX_MESSAGE_BYTES;
    // The queue takes one more row when it is almost full.
    let queue = 2 * (QUEUE_BYTES + MAX_MESSAGE_BYTES);
    // Debezium takes what the queue holds, and what comes in `poll.interval.ms`, 10: of large rows less than the queue holds.
    let batch = 2 * (2 * QUEUE_BYTES);
    // An unacknowledged event keeps its row besides its own bytes.
    let producer = 3 * PRODUCER_BYTES;
    fetch + queue + batch + producer
};
const _: () = assert!(WORKER_BYTES + CONNECTORS * CONNECTOR_BYTES <= HEAP_BYTES);
// Debezium refuses a queue that is not larger than a batch.
const _: () = assert!(QUEUE_ROWS > BATCH_ROWS);

/// The properties that hold to it.
pub(super) fn bounds() -> [(&'static str, String); 6] {
    [
        ("snapshot.fetch.size", FETCH_ROWS),
        ("max.queue.size", QUEUE_ROWS),
        ("max.queue.size.in.bytes", QUEUE_BYTES),
        ("max.batch.size", BATCH_ROWS),
        ("producer.override.buffer.memory", PRODUCER_BYTES),
        ("producer.override.max.request.size", MAX_MESSAGE_BYTES),
    ]
    .map(|(name, bound)| (name, bound.to_string()))
}
