//! A listener's configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use serde::{Deserialize, Serialize, Serializer};

use super::{BreakerPolicy, Error, RetryPolicy};
use crate::property::bears_secret;

/// Where a listener reads, and as whom. Neither its `Debug` nor what it serializes to shows a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listener's name in inbox, epochs and dead letters, at most 63 characters. Two listeners may share a database.
    pub name: String,
    /// Kafka's addresses, `host:port[,host:port…]`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group: String,
    /// The topics to read. They need not exist yet.
    pub topics: Vec<String>,
    /// The most messages in one transaction.
    pub max_batch: usize,
    /// Further properties of librdkafka, such as `security.protocol`. Those that carry the listener's guarantees are
    /// refused, and so are secrets.
    #[serde(serialize_with = "without_secrets")]
    pub properties: BTreeMap<String, String>,
    /// Properties of librdkafka whose values are files' contents, such as `sasl.password`: the file's path by the
    /// property's name. Read whenever a client is made; a trailing newline does not count.
    pub property_files: BTreeMap<String, PathBuf>,
    /// When a burst of dead letters stops the listener.
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// How deferred dead letters, and those that failed in an unknown way, are tried again.
    #[serde(default)]
    pub retry: RetryPolicy,
}

/// Stands for a secret.
const REDACTED: &str = "<redacted>";

/// Messages in one transaction, where nothing else is configured. Beyond it throughput hardly grows (measured:
/// 16-19 k messages/s with 100, 25-31 k with 500) while locks are held longer.
pub const DEFAULT_MAX_BATCH: usize = 500;

/// The width of the column `listener`.
const MOST_NAME: usize = 63;

/// Properties that only the listener sets: with others, messages would be skipped, or a setting of its own would be
/// overruled.
const RESERVED: [&str; 9] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    // By them it knows whether a broker is there.
    "statistics.interval.ms",
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
            property_files: BTreeMap::new(),
            breaker: BreakerPolicy::default(),
            retry: RetryPolicy::default(),
        }
    }

    /// Looks the configuration over as [`Listener::new`](super::Listener::new) and librdkafka do, the files of
    /// `property_files` and those that properties name included. Connects nowhere.
    ///
    /// # Errors
    /// Those of [`Listener::new`](super::Listener::new).
    pub fn check(&self) -> Result<(), Error> {
        self.refuse()?;
        self.find_files()?;
        let mut client = self.client()?;
        // A client without an address has nobody to connect to.
        client.remove("bootstrap.servers");
        client.create_native_config().map_err(refused)?;
        // With it, librdkafka would ask the token's issuer at once.
        if client.get("sasl.oauthbearer.method") == Some("oidc") {
            return Ok(());
        }
        client.create::<BaseConsumer>().map(drop).map_err(refused)
    }

    /// Looks the names and values of properties over, for a machine that lacks the files that they name: of
    /// `property_files` the names alone, and nothing of what goes together.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Reserved`], [`Error::Secret`], [`Error::Twice`] or [`Error::Property`].
    pub fn check_without_files(&self) -> Result<(), Error> {
        self.refuse()?;
        self.plain().create_native_config().map_err(refused)?;
        for property in self.property_files.keys() {
            // Whether there is such a property; what it may be, only the file's content tells.
            let found = ClientConfig::new()
                .set(property, "1")
                .create_native_config();
            if let Err(
                error @ KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..),
            ) = found
            {
                return Err(refused(error));
            }
        }
        Ok(())
    }

    /// Refuses what would void the listener's guarantees in silence, and secrets.
    pub(super) fn refuse(&self) -> Result<(), Error> {
        if self.name.is_empty() || self.name.chars().count() > MOST_NAME {
            return Err(Error::Name(self.name.clone()));
        }
        let mut names = self.properties.keys().chain(self.property_files.keys());
        if let Some(name) = names.find(|name| RESERVED.contains(&name.as_str())) {
            return Err(Error::Reserved(name.clone()));
        }
        if let Some(name) = self.properties.keys().find(|name| bears_secret(name)) {
            return Err(Error::Secret(name.clone()));
        }
        let mut files = self.property_files.keys();
        match files.find(|name| self.properties.contains_key(*name)) {
            Some(name) => Err(Error::Twice(name.clone())),
            None => Ok(()),
        }
    }

    /// librdkafka says which property names a file that is not there, but not which file.
    fn find_files(&self) -> Result<(), Error> {
        for (property, path) in &self.properties {
            // `probe` looks where systems keep their authorities.
            if property.ends_with(".location") && !["", "probe"].contains(&path.as_str()) {
                std::fs::metadata(path).map_err(|source| Error::PropertyFile {
                    property: property.clone(),
                    path: path.into(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// The Kafka client's configuration, with what the files hold at this moment: to measure or to watch with a consumer
    /// that is set up as the listener's.
    ///
    /// # Errors
    /// [`Error::PropertyFile`].
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let mut client = self.plain();
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

    /// The same without what the files hold.
    fn plain(&self) -> ClientConfig {
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
            // Bounded memory: a fetch begins when less than this waits, and brings so much at most, from all partitions together
            // (else from each). A message that is larger comes alone.
            ("queued.max.messages.kbytes", "256"),
            ("fetch.max.bytes", "262144"),
            ("fetch.message.max.bytes", "262144"),
            // Of a producer, but librdkafka raises fetch.max.bytes to it.
            ("message.max.bytes", "262144"),
            // No second of idling once the queue was full (the default).
            ("fetch.queue.backoff.ms", "10"),
            // A connection that died without a word is noticed and made again.
            ("socket.keepalive.enable", "true"),
            ("socket.timeout.ms", "10000"),
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

/// An error of librdkafka about a configuration. Its own text would repeat the value.
pub(super) fn refused(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, property, _) => Error::Property { property, reason },
        error => Error::Config(error),
    }
}

fn shown(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    properties.iter().map(|(name, value)| {
        let shown = if bears_secret(name) { REDACTED } else { value };
        (name.as_str(), shown)
    })
}

fn without_secrets<S: Serializer>(
    properties: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(shown(properties))
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
            .field("properties", &shown(properties).collect::<BTreeMap<_, _>>())
            .field("property_files", property_files)
            .field("breaker", breaker)
            .field("retry", retry)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn till() -> Config {
        Config::new("127.0.0.1:9092", "till", "payment")
    }

    fn with(properties: &[(&str, &str)]) -> Config {
        let mut config = till();
        for (name, value) in properties {
            config
                .properties
                .insert((*name).to_owned(), (*value).to_owned());
        }
        config
    }

    #[test]
    fn what_would_void_the_guarantees_is_refused() {
        till().check().unwrap();
        with(&[("client.rack", "00123")]).check().unwrap();
        for name in ["auto.offset.reset", "group.id", "bootstrap.servers"] {
            let refused = with(&[(name, "latest")]).check();
            assert!(matches!(refused, Err(Error::Reserved(key)) if key == name));
            let mut config = till();
            config.property_files.insert(name.to_owned(), "x".into());
            assert!(matches!(config.check(), Err(Error::Reserved(key)) if key == name));
        }
        let config = Config::new("127.0.0.1:9092", &"x".repeat(64), "payment");
        assert!(matches!(config.check(), Err(Error::Name(_))));
    }

    #[test]
    fn a_property_that_librdkafka_refuses_is_named() {
        for (name, value, reason) in [
            ("session.timeout", "1", "No such configuration property"),
            ("session.timeout.ms", "soon", "Invalid value"),
            ("security.protocol", "TLS", "Invalid value"),
        ] {
            let told = with(&[(name, value)]).check().unwrap_err().to_string();
            assert!(told.contains(name) && told.contains(reason), "{told}");
        }
        // What librdkafka looks at only when it makes a client: what goes together.
        let scram = with(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
        ]);
        let refused = scram.check();
        assert!(matches!(refused, Err(Error::Config(_))), "{refused:?}");
        let authority = with(&[
            ("security.protocol", "SSL"),
            ("ssl.ca.location", "/nowhere"),
        ]);
        let told = authority.check().unwrap_err().to_string();
        assert!(
            told.contains("ssl.ca.location") && told.contains("/nowhere"),
            "{told}"
        );
    }

    #[test]
    fn names_and_values_are_looked_over_where_the_files_are_not() {
        let mut tls = with(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("ssl.ca.location", "/nowhere"),
        ]);
        let mut file = |property: &str| {
            tls.property_files
                .insert(property.to_owned(), "/nowhere".into());
            tls.check_without_files()
        };
        file("sasl.password").unwrap();
        file("ssl.key.pem").unwrap();
        let told = file("sasl.pasword").unwrap_err().to_string();
        assert!(told.contains("sasl.pasword"), "{told}");
        for name in ["session.timeout", "sasl.password", "group.id"] {
            let told = with(&[(name, "1")]).check_without_files().unwrap_err();
            assert!(told.to_string().contains(name), "{told}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_shown_nowhere() {
        let literal = with(&[("sasl.password", "hunter2")]);
        let told = literal.check().unwrap_err().to_string();
        assert!(
            told.contains("sasl.password") && told.contains("property_files"),
            "{told}"
        );
        let shown = format!("{literal:?} {}", serde_json::to_string(&literal).unwrap());
        assert!(
            !shown.contains("hunter2") && shown.contains(REDACTED),
            "{shown}"
        );

        let path = std::env::temp_dir().join(format!("listener-secret-{}", std::process::id()));
        std::fs::write(&path, "hunter2\n").unwrap();
        let mut config = with(&[
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "till"),
        ]);
        config
            .property_files
            .insert("sasl.password".to_owned(), path.clone());
        let (checked, client) = (config.check(), config.client());
        std::fs::remove_file(&path).unwrap();
        checked.unwrap();
        assert_eq!(client.unwrap().get("sasl.password"), Some("hunter2"));
        let told = config.check().unwrap_err().to_string();
        assert!(
            told.contains("sasl.password") && told.contains("listener-secret"),
            "{told}"
        );

        let mut twice = with(&[("client.rack", "a")]);
        twice.property_files.insert("client.rack".to_owned(), path);
        assert!(matches!(twice.check(), Err(Error::Twice(name)) if name == "client.rack"));
    }
}
