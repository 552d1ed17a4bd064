//! The Debezium connector of an outbox.
//!
//! Its configuration is derived, never written by hand: names and addresses from the [`Specification`], everything on which
//! delivery depends from `derived`, and the operator's further properties last. The two forms on the wire differ in the value's
//! converter and in where the router puts the event's type.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::derived::{FIXED, TOPIC_GROUP};
use super::memory;
use super::outbox::{SLOT_SUFFIX, Specification};
use super::settings::WireForm;
use crate::retention::Retention;

/// Partitions of each topic. More workers than that cannot share one.
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
        format!("{}{SLOT_SUFFIX}", self.context)
    }

    /// The connector and its topics: `name` and `config` as Kafka Connect takes them, and `topics` with `name`, `partitions`,
    /// `replication_factor` and `config` as Kafka takes them.
    ///
    /// Create the topics first. Kafka Connect creates a missing one alike at its first event, but a listener that has subscribed to it
    /// notices seconds later.
    ///
    /// ```
    /// # use outbox::specification::Specification;
    /// /// The body of `PUT /connectors/NAME/config`, and the topics to create before.
    /// fn of(specification: &Specification) -> (String, Vec<String>) {
    ///     let json = specification.to_json();
    ///     let topics = json["topics"].as_array().into_iter().flatten();
    ///     (json["config"].to_string(), topics.map(|topic| topic["name"].to_string()).collect())
    /// }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        let config = self.topic_config();
        let topics: Vec<Value> = self
            .topics
            .iter()
            .map(|name| {
                json!({
                    "name": name,
                    "partitions": PARTITIONS,
                    "replication_factor": self.settings.replication_factor,
                    "config": config,
                })
            })
            .collect();
        json!({ "name": self.name(), "config": self.config(), "topics": topics })
    }

    /// The configuration of each topic, by Kafka Connect or by an operator.
    fn topic_config(&self) -> BTreeMap<String, String> {
        let day = Duration::from_hours(24);
        // Kafka deletes a closed segment as a whole.
        let segment = day * Retention::SEGMENT_DAYS.into();
        let [retention, segment] = [self.retention.topic(), segment].map(|time| time.as_millis());
        // With two replicas of three, an acknowledged event survives the loss of a broker, and one broker may be away.
        let in_sync = if self.settings.replication_factor < 3 {
            1
        } else {
            2
        };
        let ours = [
            ("cleanup.policy", "delete".to_owned()),
            (
                "max.message.bytes",
                (memory::MAX_MESSAGE_BYTES + memory::BATCH_OVERHEAD).to_string(),
            ),
            ("min.insync.replicas", in_sync.to_string()),
            // A broker may have a bound in bytes for all topics: it would delete events that no listener has read.
            ("retention.bytes", "-1".to_owned()),
            ("retention.ms", retention.to_string()),
            ("segment.ms", segment.to_string()),
        ];
        let of_group = format!("topic.creation.{TOPIC_GROUP}.");
        let properties = self.settings.properties.iter();
        let free = properties
            .filter_map(|(name, value)| Some((name.strip_prefix(&of_group)?, value.to_owned())));
        ours.into_iter()
            .chain(free)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The topics that Kafka Connect may create, as regular expressions: those of the events, and that of Debezium's heartbeat.
    fn created_topics(&self) -> String {
        let heartbeat = format!("__debezium-heartbeat.{}", self.context);
        let names = self.topics.iter().chain([&heartbeat]);
        let names: Vec<String> = names.map(|name| name.replace('.', r"\.")).collect();
        names.join(",")
    }

    /// The configuration that Kafka Connect takes. Kafka Connect stores every value as a string, so every value is one.
    fn config(&self) -> Map<String, Value> {
        let context = &self.context;
        let settings = &self.settings;
        let host = settings.host.as_ref().unwrap_or(&self.address.0);
        let port = settings.port.unwrap_or(self.address.1).to_string();
        let slot = self.slot();
        let replicas = settings.replication_factor.to_string();
        let partitions = PARTITIONS.to_string();
        let created = self.created_topics();
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
        // There is no word for "never": a worker with `exactly.once.source.support=enabled` uses transactions for all its connectors.
        let transactions = if settings.exactly_once {
            "required"
        } else {
            "requested"
        };
        let bounds = memory::bounds();
        let entries = [
            ("topic.prefix", context.as_str()),
            ("database.hostname", host),
            ("database.port", &port),
            ("database.user", &settings.user),
            ("database.password", settings.password.as_str()),
            ("database.dbname", &self.database),
            ("slot.name", &slot),
            ("topic.creation.events.include", &created),
            ("topic.creation.events.partitions", &partitions),
            ("topic.creation.events.replication.factor", &replicas),
            ("value.converter", value_converter),
            ("predicates.heartbeat.pattern", &heartbeat_topic),
            (
                "transforms.outbox.table.fields.additional.placement",
                &placement,
            ),
            ("exactly.once.support", transactions),
        ];
        let of_topics = self.topic_config().into_iter().map(|(name, value)| {
            (
                format!("topic.creation.{TOPIC_GROUP}.{name}"),
                Value::from(value),
            )
        });
        FIXED
            .into_iter()
            .chain(entries)
            .chain(bounds.iter().map(|(key, bound)| (*key, bound.as_str())))
            .chain(settings.properties.iter())
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .chain(of_topics)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::specification::derived::VARIABLE;
    use crate::specification::{Outline, Properties, Settings};

    fn of(context: &str) -> Specification {
        with(context, Settings::of_role("cdc"))
    }

    fn with(context: &str, settings: Settings) -> Specification {
        Specification::new(Outline {
            context: context.to_owned(),
            address: ("127.0.0.1".to_owned(), 5432),
            database: "db".to_owned(),
            writers: vec!["writer".to_owned()],
            keeper: "keeper".to_owned(),
            topics: vec![context.to_owned()],
            retention: Retention::default(),
            settings,
        })
        .unwrap()
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
    fn what_keeps_the_order_of_a_key_is_always_there() {
        let config = of("order").config();
        let producer = |name: &str| config[&format!("producer.override.{name}")].clone();
        assert_eq!(producer("max.in.flight.requests.per.connection"), "1");
        assert_eq!(producer("delivery.timeout.ms"), i32::MAX.to_string());
        assert_eq!(producer("enable.idempotence"), "true");
        assert_eq!(producer("acks"), "all");
        assert_eq!(producer("partitioner.ignore.keys"), "false");
    }

    #[test]
    fn a_batch_fits_into_the_queue_and_the_rows_in_memory_are_few() {
        let config = of("order").config();
        let number = |name: &str| config[name].as_str().unwrap().parse::<usize>().unwrap();
        assert!(number("max.queue.size") > number("max.batch.size"));
        assert!(number("max.queue.size.in.bytes") <= 16 * 1024 * 1024);
        // Nothing else bounds the bytes of a batch.
        assert_eq!(number("poll.interval.ms"), 10);
        assert!(number("snapshot.fetch.size") * memory::MAX_MESSAGE_BYTES <= 64 * 1024 * 1024);
    }

    #[test]
    fn kafka_connect_creates_the_topics_of_the_specification_as_they_are_declared() {
        let flush = [(
            "topic.creation.events.flush.messages".to_owned(),
            "1".to_owned(),
        )];
        let settings = Settings {
            replication_factor: 3,
            properties: Properties::new(flush.into()).unwrap(),
            ..Settings::of_role("cdc")
        };
        let outline = Outline {
            topics: vec!["sales.order".to_owned(), "audit".to_owned()],
            ..(*with("order", settings)).clone()
        };
        let specification = Specification::new(outline).unwrap();
        let config = specification.config();
        let include = r"sales\.order,audit,__debezium-heartbeat\.order";
        assert_eq!(config["topic.creation.events.include"], include);
        let declared = specification.to_json();
        for topic in declared["topics"].as_array().unwrap() {
            for (name, value) in topic["config"].as_object().unwrap() {
                assert_eq!(&config[&format!("topic.creation.events.{name}")], value);
            }
            assert_eq!(topic["config"]["min.insync.replicas"], "2");
            assert_eq!(topic["config"]["flush.messages"], "1");
        }
    }

    #[test]
    fn options_are_added_and_change_nothing_else() {
        let lean = of("order").config();
        let further = [("database.sslmode".to_owned(), "verify-full".to_owned())];
        let settings = Settings {
            exactly_once: true,
            wire_form: WireForm::Envelope,
            properties: Properties::new(further.into()).unwrap(),
            ..Settings::of_role("cdc")
        };
        let config = with("order", settings).config();
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
                "transforms.outbox.table.fields.additional.placement",
                "value.converter"
            ]
        );
    }

    #[test]
    fn each_property_that_the_specification_sets_is_known_as_derived() {
        let config = of("order").config();
        let set: BTreeSet<&str> = config.keys().map(String::as_str).collect();
        let bounds: Vec<&str> = memory::bounds().into_iter().map(|(key, _)| key).collect();
        let derived: BTreeSet<&str> = FIXED
            .iter()
            .map(|(key, _)| *key)
            .chain(VARIABLE)
            .chain(bounds)
            .collect();
        assert_eq!(set, derived);
    }
}
