//! The configuration as librdkafka takes it: its properties, and its errors about them.
//!
//! The properties are those that carry the listener's guarantees (offsets never follow a timer, only committed transactions are
//! read), those that bound its memory, and those that shorten how long a failure lasts. The comment of each says what its default
//! would do instead. A configured property replaces one of these, unless it is reserved.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::Config;
use crate::listener::error::Error;

impl Config {
    /// The Kafka client's configuration, with the present content of the files: for a consumer of your own that is set up like the
    /// listener's, for example to measure or to watch.
    ///
    /// # Errors
    /// [`Error::PropertyFile`].
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let mut client = self.without_files();
        for (property, path) in &self.property_files {
            let text = std::fs::read_to_string(path).map_err(|source| Error::PropertyFile {
                property: property.clone(),
                path: path.clone(),
                source,
            })?;
            client.set(property, text.trim_end_matches(['\r', '\n']));
        }
        Ok(client)
    }

    pub(super) fn without_files(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        let settings = [
            ("bootstrap.servers", self.bootstrap_servers.as_str()),
            ("group.id", &self.group),
            // Offsets follow the transaction that applied the messages, never a timer.
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            // With the new protocol an exceeded max.poll.interval.ms is fatal (librdkafka#5541, 2.12 to 2.14).
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            // The time for which the partitions of a killed worker stay unassigned (default 45 s).
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "1000"),
            // The consumer finds a topic that is created later within seconds (default 5 minutes).
            ("topic.metadata.refresh.interval.ms", "2000"),
            ("fetch.min.bytes", "1"),
            ("fetch.wait.max.ms", "50"),
            // Bounded memory: a fetch starts once less than this is buffered, and returns at most this much from all partitions
            // together (otherwise from each). A larger message comes alone.
            ("queued.max.messages.kbytes", "256"),
            ("fetch.max.bytes", "262144"),
            ("fetch.message.max.bytes", "262144"),
            // A producer's property, but librdkafka raises fetch.max.bytes to it.
            ("message.max.bytes", "262144"),
            // Otherwise fetching pauses for a second once the queue was full.
            ("fetch.queue.backoff.ms", "10"),
            // librdkafka notices a connection that died without a word, and replaces it.
            ("socket.keepalive.enable", "true"),
            ("socket.timeout.ms", "10000"),
            ("reconnect.backoff.max.ms", "2000"),
            // The first answer of a broker that was fenced and comes back names no broker at all; librdkafka then drops the only
            // one that it knows, and would use bootstrap.servers again only after 5 minutes.
            ("metadata.recovery.rebootstrap.trigger.ms", "5000"),
            // They show which brokers are connected, and what waits.
            ("statistics.interval.ms", "2000"),
            ("allow.auto.create.topics", "false"),
        ];
        for (key, value) in settings {
            client.set(key, value);
        }
        for (key, value) in &self.properties {
            client.set(key, value);
        }
        client
    }
}

/// librdkafka's error about a configuration. Its own text would repeat the value.
pub(in crate::listener) fn refused(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, property, _) => Error::Property { property, reason },
        error => Error::Config(error),
    }
}
