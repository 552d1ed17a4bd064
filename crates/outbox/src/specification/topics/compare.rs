//! A declared topic against the one that Kafka has; pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::specification::drift::{Drift, compare};

/// With more of them than the topic has replicas, Kafka would take no event.
const MIN_INSYNC: &str = "min.insync.replicas";
/// The remedy of what `apply-topics` mends.
const APPLY: &str = "run the command `apply-topics`";

/// A topic as the specification declares it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: u16,
    pub(super) replication_factor: u16,
    /// Its settings, by Kafka's names.
    pub(super) config: BTreeMap<String, String>,
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, partitions, ..
        } = self;
        write!(formatter, "topic {name} with {partitions} partitions")
    }
}

/// A topic as Kafka has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) partitions: usize,
    /// Of the partition that has the fewest.
    pub(super) replicas: usize,
    /// The effective settings.
    pub(super) config: BTreeMap<String, Setting>,
}

/// A setting of a topic.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) value: String,
    /// Whether it is set on the topic itself, and no default of the broker's.
    pub(super) own: bool,
}

impl Found {
    /// The effective value of a setting.
    pub(super) fn value(&self, key: &str) -> &str {
        self.config
            .get(key)
            .map_or("nothing", |setting| &setting.value)
    }
}

/// The declared settings that the topic lacks, and may be given.
pub(super) fn alterable<'a>(topic: &'a Topic, found: &Found) -> BTreeMap<&'a str, &'a str> {
    let blocks = |key: &str, value: &str| {
        key == MIN_INSYNC
            && value
                .parse()
                .is_ok_and(|least: usize| least > found.replicas)
    };
    topic
        .config
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, value)| found.value(key) != *value && !blocks(key, value))
        .collect()
}

/// Every difference, with its remedy. `kafka` is the address in commands.
pub(super) fn differences(topic: &Topic, found: Option<&Found>, kafka: &str) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let name = &topic.name;
    let needed = topic.partitions.to_string();
    let Some(found) = found else {
        let what = format!("topic {name}");
        let needed = format!("{needed} partitions");
        compare(&mut drifts, what, &needed, "nothing", APPLY);
        return drifts;
    };
    let drained = "stop the writers until the connector has carried every event and the listeners have read the topic";
    let remedy = if found.partitions < topic.partitions.into() {
        format!(
            "keys would move to other partitions, and events overtake each other: {drained}, then run kafka-topics.sh --bootstrap-server \
             {kafka} --alter --topic {name} --partitions {needed}"
        )
    } else {
        format!(
            "Kafka removes no partition: {drained}, then run kafka-topics.sh --bootstrap-server {kafka} --delete --topic {name}, and \
             `apply-topics`"
        )
    };
    let what = format!("topic {name}, partitions");
    compare(
        &mut drifts,
        what,
        &needed,
        &found.partitions.to_string(),
        &remedy,
    );
    let replicas = found.replicas.to_string();
    compare(
        &mut drifts,
        format!("topic {name}, replicas of a partition"),
        &topic.replication_factor.to_string(),
        &replicas,
        &format!(
            "give it others with kafka-reassign-partitions.sh --bootstrap-server {kafka}, or set `replication_factor` to {replicas}"
        ),
    );
    let alterable = alterable(topic, found);
    for (key, value) in &topic.config {
        let remedy = if alterable.contains_key(key.as_str()) {
            APPLY.to_owned()
        } else {
            format!("give the topic {value} replicas at least, then {APPLY}")
        };
        let what = format!("topic {name}, {key}");
        compare(&mut drifts, what, value, found.value(key), &remedy);
    }
    drifts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(replication_factor: u16, config: &[(&str, &str)]) -> Topic {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Topic {
            name: "order".to_owned(),
            partitions: 6,
            replication_factor,
            config: config.iter().map(own).collect(),
        }
    }

    fn found(partitions: usize, replicas: usize, config: &[(&str, &str)]) -> Found {
        let own = |(key, value): &(&str, &str)| {
            let value = (*value).to_owned();
            ((*key).to_owned(), Setting { value, own: true })
        };
        Found {
            partitions,
            replicas,
            config: config.iter().map(own).collect(),
        }
    }

    fn named(topic: &Topic, found: Option<&Found>) -> Vec<String> {
        let drifts = differences(topic, found, "kafka:9092");
        drifts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_topic_as_declared_has_no_drift_whatever_else_is_set() {
        let topic = declared(1, &[("cleanup.policy", "delete")]);
        let config = [("cleanup.policy", "delete"), ("compression.type", "zstd")];
        assert!(named(&topic, Some(&found(6, 1, &config))).is_empty());
    }

    #[test]
    fn a_topic_that_loses_events_is_named_and_mended() {
        let topic = declared(1, &[("cleanup.policy", "delete"), ("retention.ms", "7")]);
        let lossy = found(
            6,
            1,
            &[("cleanup.policy", "compact"), ("retention.ms", "1")],
        );
        assert_eq!(
            named(&topic, Some(&lossy)),
            [
                "topic order, cleanup.policy: the outbox needs delete, and has compact; run the command `apply-topics`",
                "topic order, retention.ms: the outbox needs 7, and has 1; run the command `apply-topics`",
            ]
        );
        assert_eq!(alterable(&topic, &lossy).len(), 2);
        assert_eq!(
            named(&topic, None),
            [
                "topic order: the outbox needs 6 partitions, and has nothing; run the command `apply-topics`"
            ]
        );
    }

    #[test]
    fn partitions_and_replicas_are_never_changed() {
        let topic = declared(3, &[]);
        let [partitions, replicas] = named(&topic, Some(&found(3, 1, &[]))).try_into().unwrap();
        assert!(
            partitions.contains("--alter --topic order --partitions 6"),
            "{partitions}"
        );
        assert!(
            replicas.contains("set `replication_factor` to 1"),
            "{replicas}"
        );
        let more = named(&topic, Some(&found(12, 3, &[]))).join("\n");
        assert!(more.contains("--delete --topic order"), "{more}");
    }

    #[test]
    fn a_topic_with_too_few_replicas_keeps_taking_events() {
        let topic = declared(3, &[(MIN_INSYNC, "2")]);
        let alone = found(6, 1, &[(MIN_INSYNC, "1")]);
        assert!(alterable(&topic, &alone).is_empty());
        let all = named(&topic, Some(&alone)).join("\n");
        assert!(all.contains("give the topic 2 replicas at least"), "{all}");
        let spread = found(6, 3, &[(MIN_INSYNC, "1")]);
        assert_eq!(
            alterable(&topic, &spread),
            BTreeMap::from([(MIN_INSYNC, "2")])
        );
    }
}
