//! The Debezium connector that carries an outbox to Kafka: its configuration, from one typed description.
//!
//! Every setting was run with Debezium 3.7.0, Kafka Connect 4.3.1 and PostgreSQL 18.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What differs between two outboxes; the rest is the same for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// The context's name, such as `order`: it names connector, slot and Debezium's own topics.
    pub context: String,
    /// The database's host and port, as the service reaches it.
    pub address: (String, u16),
    /// The database's name.
    pub database: String,
    /// The topics that its events go to: the aggregate types that it publishes.
    pub topics: Vec<String>,
    /// What Kafka Connect is told beside.
    pub settings: Settings,
}

/// How Kafka Connect reaches a database: a section of its service's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The database's host, where it is another one for Kafka Connect.
    pub host: Option<String>,
    /// The database's port, where it is another one for Kafka Connect.
    pub port: Option<u16>,
    /// Debezium's role: LOGIN, REPLICATION and the grants of the migrations, nothing else.
    pub user: String,
    /// The role's password.
    pub password: PasswordReference,
    /// Replicas of each topic: 1 with a single broker, else 3.
    pub replication_factor: u16,
}

impl Settings {
    /// The defaults for a role: its password comes from the file of its name, with the provider `dir`.
    #[must_use]
    pub fn of_role(user: &str) -> Self {
        Self {
            host: None,
            port: None,
            user: user.to_owned(),
            password: PasswordReference(format!("${{dir:/run/credentials:{user}}}")),
            replication_factor: 1,
        }
    }
}

/// A reference that Kafka Connect resolves by one of its config providers, such as `${dir:/run/secrets:cdc}`.
/// A plain password would be shown to whoever may read Connect's REST API, so it is no such reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PasswordReference(String);

/// The text is a password, or anything else that no config provider resolves.
#[derive(Debug, thiserror::Error)]
#[error(
    "the connector's password must be a reference to a config provider of Kafka Connect, as in ${{dir:/run/secrets:order_cdc}}"
)]
pub struct NoReference;

impl PasswordReference {
    /// Takes `${provider:path:key}`.
    ///
    /// # Errors
    /// [`NoReference`] for everything else; the text is not repeated, since it may be a password.
    pub fn parse(text: &str) -> Result<Self, NoReference> {
        let inside = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'));
        match inside.map(|inside| inside.split(':').collect::<Vec<_>>()) {
            Some(parts) if parts.len() >= 2 && parts.iter().all(|part| !part.is_empty()) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(NoReference),
        }
    }
}

impl TryFrom<String> for PasswordReference {
    type Error = NoReference;

    fn try_from(text: String) -> Result<Self, NoReference> {
        Self::parse(&text)
    }
}

/// Partitions of each topic: the bound on how many workers share one.
const PARTITIONS: u16 = 6;

/// How long a message stays in its topic: 7 days, in milliseconds.
const RETENTION_MS: &str = "604800000";

/// A segment is deleted whole, so a message stays this much longer: 1 day, in milliseconds.
const SEGMENT_MS: &str = "86400000";

impl Connector {
    /// The connector's name in Kafka Connect, such as `order-outbox`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-outbox", self.context)
    }

    /// The replication slot's name, such as `order_outbox`.
    #[must_use]
    pub fn slot(&self) -> String {
        format!("{}_outbox", self.context)
    }

    /// What is to be set up: `name` and `config` as Kafka Connect takes them, and `topics` with `name`, `partitions`,
    /// `replication_factor` and `config` as Kafka takes them. A topic that is not there when its first event comes is
    /// made by Kafka Connect alike, but a listener then finds it seconds later.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let topics: Vec<Value> = self
            .topics
            .iter()
            .map(|name| {
                json!({
                    "name": name,
                    "partitions": PARTITIONS,
                    "replication_factor": self.settings.replication_factor,
                    "config": {
                        "cleanup.policy": "delete",
                        "retention.ms": RETENTION_MS,
                        "segment.ms": SEGMENT_MS,
                    },
                })
            })
            .collect();
        json!({ "name": self.name(), "config": self.config(), "topics": topics })
    }

    fn config(&self) -> Map<String, Value> {
        let context = &self.context;
        let settings = &self.settings;
        let host = settings.host.as_ref().unwrap_or(&self.address.0);
        let port = settings.port.unwrap_or(self.address.1).to_string();
        let slot = self.slot();
        let replicas = settings.replication_factor.to_string();
        let partitions = PARTITIONS.to_string();
        let heartbeat_topic = format!(r"{context}\.public\.heartbeat");
        let entries = [
            (
                "connector.class",
                "io.debezium.connector.postgresql.PostgresConnector",
            ),
            ("tasks.max", "1"),
            ("plugin.name", "pgoutput"),
            ("topic.prefix", context),
            ("database.hostname", host),
            ("database.port", &port),
            ("database.user", &settings.user),
            ("database.password", &settings.password.0),
            ("database.dbname", &self.database),
            ("slot.name", &slot),
            // The publication belongs to the migrations, so the role needs no rights on tables but SELECT.
            ("publication.name", "outbox"),
            ("publication.autocreate.mode", "disabled"),
            ("table.include.list", "public.outbox,public.heartbeat"),
            // A lost slot heals: the whole outbox is read again, in each aggregate's order.
            ("snapshot.mode", "when_needed"),
            ("snapshot.select.statement.overrides", "public.outbox"),
            (
                "snapshot.select.statement.overrides.public.outbox",
                "select * from public.outbox order by seq",
            ),
            // Without writes of its own, an idle outbox would pin the log of a busy database.
            ("heartbeat.interval.ms", "2000"),
            (
                "heartbeat.action.query",
                "with gone as (delete from heartbeat) insert into heartbeat default values",
            ),
            // Debezium's queue waits this out even when events are there: it is the latency.
            ("poll.interval.ms", "10"),
            ("producer.override.linger.ms", "0"),
            ("producer.override.enable.idempotence", "true"),
            // Nothing is dropped and nothing gives up.
            ("errors.tolerance", "none"),
            ("errors.max.retries", "-1"),
            ("retriable.restart.connector.wait.ms", "1000"),
            ("topic.creation.default.partitions", &partitions),
            ("topic.creation.default.replication.factor", &replicas),
            ("topic.creation.default.cleanup.policy", "delete"),
            ("topic.creation.default.retention.ms", RETENTION_MS),
            ("topic.creation.default.segment.ms", SEGMENT_MS),
            // The lean form: the value is the payload itself, id and type are headers.
            (
                "key.converter",
                "org.apache.kafka.connect.storage.StringConverter",
            ),
            (
                "value.converter",
                "org.apache.kafka.connect.storage.StringConverter",
            ),
            ("extended.headers.enabled", "false"),
            ("tombstones.on.delete", "false"),
            ("transforms", "heartbeat,outbox"),
            // The router throws on a captured table without a payload.
            (
                "transforms.heartbeat.type",
                "org.apache.kafka.connect.transforms.Filter",
            ),
            ("transforms.heartbeat.predicate", "heartbeat"),
            ("predicates", "heartbeat"),
            (
                "predicates.heartbeat.type",
                "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
            ),
            ("predicates.heartbeat.pattern", &heartbeat_topic),
            (
                "transforms.outbox.type",
                "io.debezium.transforms.outbox.EventRouter",
            ),
            (
                "transforms.outbox.route.topic.replacement",
                "${routedByValue}",
            ),
            (
                "transforms.outbox.table.fields.additional.placement",
                "type:header:event_type,traceparent:header:traceparent",
            ),
        ];
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_no_reference() {
        assert!(PasswordReference::parse("${dir:/run/secrets:order_cdc}").is_ok());
        for text in ["hunter2", "", "${}", "${dir}", "${dir:}"] {
            let refused = PasswordReference::parse(text).unwrap_err().to_string();
            assert!(text.is_empty() || text == "${}" || !refused.contains("hunter2"));
        }
    }

    #[test]
    fn two_outboxes_share_neither_slot_nor_prefix() {
        let of = |context: &str| Connector {
            context: context.to_owned(),
            address: ("127.0.0.1".to_owned(), 5432),
            database: "db".to_owned(),
            topics: vec![context.to_owned()],
            settings: Settings::of_role("cdc"),
        };
        let (order, inventory) = (of("order").config(), of("inventory").config());
        for key in ["slot.name", "topic.prefix", "predicates.heartbeat.pattern"] {
            assert_ne!(order[key], inventory[key], "{key}");
        }
    }
}
