//! The Debezium connector of an outbox. Every setting was run with Debezium 3.7.0, Kafka Connect 4.3.1 and
//! PostgreSQL 18.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Settings, Specification, WireForm};
use crate::Retention;

/// Partitions of each topic: the bound on how many workers share one.
const PARTITIONS: u16 = 6;

impl Specification {
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
        let [retention, segment] = self.topic_times();
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
                        "retention.ms": retention,
                        "segment.ms": segment,
                    },
                })
            })
            .collect();
        json!({ "name": self.name(), "config": self.config(), "topics": topics })
    }

    /// How long a message stays, and how long until a segment, which is deleted whole, is closed: in milliseconds.
    fn topic_times(&self) -> [String; 2] {
        let day = Duration::from_hours(24);
        let segment = day * Retention::SEGMENT_DAYS.into();
        [self.retention.topic(), segment].map(|time| time.as_millis().to_string())
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one setting after the other, each with its reason"
    )]
    fn config(&self) -> Map<String, Value> {
        let context = &self.context;
        let settings = &self.settings;
        let host = settings.host.as_ref().unwrap_or(&self.address.0);
        let port = settings.port.unwrap_or(self.address.1).to_string();
        let slot = self.slot();
        let replicas = settings.replication_factor.to_string();
        let partitions = PARTITIONS.to_string();
        let [retention, segment] = self.topic_times();
        let heartbeat_topic = format!(r"{context}\.public\.heartbeat");
        let (value_converter, placement) = match settings.wire_form {
            WireForm::Lean => (
                "org.apache.kafka.connect.storage.StringConverter",
                "type:header:event_type",
            ),
            WireForm::Envelope => (
                "org.apache.kafka.connect.json.JsonConverter",
                "type:envelope:event_type",
            ),
        };
        let placement = format!("{placement},traceparent:header:traceparent");
        let mut entries = vec![
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
            ("topic.creation.default.retention.ms", &retention),
            ("topic.creation.default.segment.ms", &segment),
            (
                "key.converter",
                "org.apache.kafka.connect.storage.StringConverter",
            ),
            ("value.converter", value_converter),
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
                &placement,
            ),
        ];
        if settings.exactly_once {
            entries.extend([
                ("exactly.once.support", "required"),
                ("transaction.boundary", "poll"),
            ]);
        }
        let further = settings
            .properties
            .0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        entries.extend(further);
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect()
    }
}

/// Whether the specification sets a property, or leaves it out for a reason.
pub(super) fn derives(key: &str) -> bool {
    let specification = Specification {
        context: String::new(),
        address: (String::new(), 0),
        database: String::new(),
        writers: Vec::new(),
        keeper: String::new(),
        topics: Vec::new(),
        retention: Retention::default(),
        settings: Settings {
            exactly_once: true,
            ..Settings::of_role("")
        },
    };
    specification.config().contains_key(key)
        || key.starts_with("transforms")
        || key.starts_with("table.")
}

#[cfg(test)]
mod tests {
    use super::super::Properties;
    use super::*;

    fn of(context: &str) -> Specification {
        Specification {
            context: context.to_owned(),
            address: ("127.0.0.1".to_owned(), 5432),
            database: "db".to_owned(),
            writers: vec!["writer".to_owned()],
            keeper: "keeper".to_owned(),
            topics: vec![context.to_owned()],
            retention: Retention::default(),
            settings: Settings::of_role("cdc"),
        }
    }

    #[test]
    fn two_outboxes_share_neither_slot_nor_prefix() {
        let (order, inventory) = (of("order").config(), of("inventory").config());
        for key in ["slot.name", "topic.prefix", "predicates.heartbeat.pattern"] {
            assert_ne!(order[key], inventory[key], "{key}");
        }
    }

    #[test]
    fn what_heals_and_what_keeps_the_log_short_is_always_there() {
        let config = of("order").config();
        assert_eq!(config["snapshot.mode"], "when_needed");
        assert_eq!(
            config["snapshot.select.statement.overrides.public.outbox"],
            "select * from public.outbox order by seq"
        );
        assert_eq!(config["heartbeat.interval.ms"], "2000");
        assert!(!config.contains_key("offset.mismatch.strategy"));
    }

    #[test]
    fn options_are_added_and_change_nothing_else() {
        let lean = of("order").config();
        let mut specification = of("order");
        specification.settings.exactly_once = true;
        specification.settings.wire_form = WireForm::Envelope;
        let further = [("database.sslmode".to_owned(), "verify-full".to_owned())];
        specification.settings.properties = Properties::new(further.into()).unwrap();
        let config = specification.config();
        assert_eq!(config["database.sslmode"], "verify-full");
        let changed: Vec<&String> = config
            .keys()
            .filter(|key| config.get(*key) != lean.get(*key))
            .collect();
        assert_eq!(
            changed,
            [
                "database.sslmode",
                "exactly.once.support",
                "transaction.boundary",
                "transforms.outbox.table.fields.additional.placement",
                "value.converter"
            ]
        );
    }
}
