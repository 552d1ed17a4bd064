//! A listener's configuration.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use super::Error;

/// Where a listener reads, and as whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listener's name in inbox, epochs and letters, at most 63 characters. Two listeners may share a database.
    pub name: String,
    /// Kafka's addresses, `host:port[,host:port…]`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group: String,
    /// The topics to read. They need not exist yet.
    pub topics: Vec<String>,
    /// The most messages in one transaction.
    pub max_batch: usize,
    /// Further properties of librdkafka, such as TLS and SASL. Those that carry the listener's guarantees are refused.
    pub properties: BTreeMap<String, String>,
}

/// Messages in one transaction, where nothing else is configured. Beyond it throughput hardly grows (measured:
/// 16-19 k messages/s with 100, 25-31 k with 500) while locks are held longer.
pub const DEFAULT_MAX_BATCH: usize = 500;

/// The width of the column `listener`.
const MOST_NAME: usize = 63;

/// Properties that only the listener sets: with others, messages would be skipped.
const RESERVED: [&str; 5] = [
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "group.protocol",
];

impl Config {
    /// A listener named as its group, with the defaults.
    #[must_use]
    pub fn new(bootstrap_servers: &str, group: &str, topic: &str) -> Self {
        Self {
            name: group.to_owned(),
            bootstrap_servers: bootstrap_servers.to_owned(),
            group: group.to_owned(),
            topics: vec![topic.to_owned()],
            max_batch: DEFAULT_MAX_BATCH,
            properties: BTreeMap::new(),
        }
    }

    /// Refuses what would void the listener's guarantees in silence.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.name.is_empty() || self.name.chars().count() > MOST_NAME {
            return Err(Error::Name(self.name.clone()));
        }
        match self
            .properties
            .keys()
            .find(|key| RESERVED.contains(&key.as_str()))
        {
            Some(key) => Err(Error::Reserved(key.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn client(&self) -> ClientConfig {
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
            // How long the partitions of a killed worker wait (default 45 s).
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "1000"),
            // A topic that is created later is found in seconds (default 5 minutes).
            ("topic.metadata.refresh.interval.ms", "2000"),
            ("fetch.min.bytes", "1"),
            ("fetch.wait.max.ms", "50"),
            // Bounded memory, and no second of idling once the queue was full (the default back-off).
            ("queued.max.messages.kbytes", "4096"),
            ("fetch.message.max.bytes", "1048576"),
            ("fetch.queue.backoff.ms", "10"),
            // A connection that died without a word is noticed and made again.
            ("socket.keepalive.enable", "true"),
            ("reconnect.backoff.max.ms", "2000"),
            // A broker that was fenced and comes back names no broker at all in its first answer; librdkafka then drops
            // the only one that it knows, and would look at bootstrap.servers again after 5 minutes.
            ("metadata.recovery.rebootstrap.trigger.ms", "5000"),
            // Tells which brokers are reached.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_void_the_guarantees_is_refused() {
        let mut config = Config::new("127.0.0.1:9092", "till", "payment");
        config.check().unwrap();
        config
            .properties
            .insert("security.protocol".to_owned(), "SSL".to_owned());
        config.check().unwrap();
        config
            .properties
            .insert("auto.offset.reset".to_owned(), "latest".to_owned());
        assert!(matches!(config.check(), Err(Error::Reserved(key)) if key == "auto.offset.reset"));
        let config = Config::new("127.0.0.1:9092", &"x".repeat(64), "payment");
        assert!(matches!(config.check(), Err(Error::Name(_))));
    }
}
