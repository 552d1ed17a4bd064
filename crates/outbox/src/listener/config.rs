//! A listener's configuration.
//!
//! It is serializable, so that a service takes it as a section of its own settings; the names of the settings are those of the
//! fields, durations with their unit (`retry.max_backoff_s`).

mod check;
pub(super) mod client;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use super::breaker::BreakerPolicy;
use super::retry::RetryPolicy;
use crate::property::bears_secret;

/// Where a listener reads, in which group, and how. Neither its `Debug` nor its serialized form shows a secret.
///
/// ```
/// use outbox::listener::Config;
///
/// let mut config = Config::new("kafka.example.org:9093", "payments", "payment");
/// config.properties.insert("security.protocol".to_owned(), "SASL_SSL".to_owned());
/// config.properties.insert("sasl.mechanism".to_owned(), "SCRAM-SHA-512".to_owned());
/// config.properties.insert("sasl.username".to_owned(), "payments".to_owned());
/// config.property_files.insert("sasl.password".to_owned(), "/run/secrets/kafka".into());
/// config.check_without_files()?;
/// # Ok::<(), outbox::listener::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listener's name in its tables, of at most 63 characters. Listeners with different names may share a database.
    pub name: String,
    /// Kafka's addresses, `host:port[,host:port…]`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group: String,
    /// The topics to read. The listener waits for those that do not exist yet.
    pub topics: Vec<String>,
    /// The most messages in one transaction; 0 counts as 1. [`DEFAULT_MAX_BATCH`] says why it is 500 by default.
    pub max_batch: usize,
    /// Further properties of librdkafka, such as `security.protocol`. The listener refuses those that carry its guarantees
    /// ([`Error::Reserved`](super::Error::Reserved)) and secrets ([`Error::Secret`](super::Error::Secret)).
    #[serde(serialize_with = "without_secrets")]
    pub properties: BTreeMap<String, String>,
    /// Properties of librdkafka whose values stand in files, such as `sasl.password`: the path by the property's name. The
    /// listener reads a file whenever it creates the Kafka client; a newline at its end does not count.
    pub property_files: BTreeMap<String, PathBuf>,
    /// When a burst of dead letters stops the listener.
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// When the listener retries deferred and unknown dead letters by itself.
    #[serde(default)]
    pub retry: RetryPolicy,
}

/// Replaces a secret.
const REDACTED: &str = "<redacted>";

/// The most messages in one transaction by default. A larger number hardly raises the throughput (measured: 16–19 k messages/s
/// with 100, 25–31 k with 500), and locks are held for longer.
pub const DEFAULT_MAX_BATCH: usize = 500;

impl Config {
    /// A listener named like its consumer group, with the defaults.
    #[must_use]
    pub fn new(bootstrap_servers: &str, group: &str, topic: &str) -> Self {
        Self {
            name: group.to_owned(),
            bootstrap_servers: bootstrap_servers.to_owned(),
            group: group.to_owned(),
            topics: vec![topic.to_owned()],
            max_batch: DEFAULT_MAX_BATCH,
            properties: BTreeMap::new(),
            property_files: BTreeMap::new(),
            breaker: BreakerPolicy::default(),
            retry: RetryPolicy::default(),
        }
    }
}

fn redacted(properties: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let redacted = properties.iter().map(|(name, value)| {
        let value = if bears_secret(name) { REDACTED } else { value };
        (name.as_str(), value)
    });
    redacted.collect()
}

fn without_secrets<S: Serializer>(
    properties: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(redacted(properties))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            bootstrap_servers,
            group,
            topics,
            max_batch,
            properties,
            property_files,
            breaker,
            retry,
        } = self;
        f.debug_struct("Config")
            .field("name", name)
            .field("bootstrap_servers", bootstrap_servers)
            .field("group", group)
            .field("topics", topics)
            .field("max_batch", max_batch)
            .field("properties", &redacted(properties))
            .field("property_files", property_files)
            .field("breaker", breaker)
            .field("retry", retry)
            .finish()
    }
}
