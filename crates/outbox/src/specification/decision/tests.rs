use std::collections::BTreeSet;

use super::*;
use crate::specification::derived::{FIXED, VARIABLE};
use crate::specification::memory;

/// Every name that Debezium 3.7.0.Final, Kafka Connect 4.3.1 and their clients declare, below what it stands in a connector's configuration.
const LISTS: [(&[&str], &str); 13] = [
    (
        &[""],
        include_str!("../../../tests/golden/properties/postgres-declared.txt"),
    ),
    (
        &[""],
        include_str!("../../../tests/golden/properties/postgres-documented.txt"),
    ),
    (
        &[""],
        include_str!("../../../tests/golden/properties/connect.txt"),
    ),
    (
        &["transforms.outbox."],
        include_str!("../../../tests/golden/properties/router.txt"),
    ),
    (
        &["topic.creation.events.", "topic.creation.group."],
        include_str!("../../../tests/golden/properties/topic-group.txt"),
    ),
    (
        &["topic.creation.events.", "topic.creation.group."],
        include_str!("../../../tests/golden/properties/topic-config.txt"),
    ),
    (
        &["key.converter.", "value.converter."],
        include_str!("../../../tests/golden/properties/converter-json.txt"),
    ),
    (
        &["key.converter.", "value.converter."],
        include_str!("../../../tests/golden/properties/converter-string.txt"),
    ),
    (
        &["producer.override."],
        include_str!("../../../tests/golden/properties/producer.txt"),
    ),
    (
        &["consumer.override."],
        include_str!("../../../tests/golden/properties/consumer.txt"),
    ),
    (
        &["admin.override."],
        include_str!("../../../tests/golden/properties/admin.txt"),
    ),
    (
        &["driver.", "database."],
        include_str!("../../../tests/golden/properties/driver.txt"),
    ),
    (
        &["driver.", "database."],
        include_str!("../../../tests/golden/properties/jdbc.txt"),
    ),
];

/// Names that the code reads without declaring them, or that are composed.
const UNDECLARED: [&str; 3] = ["multi.partition.mode", "task.id", "heartbeat.topics.prefix"];

fn listed() -> BTreeSet<String> {
    let under = |(prefixes, list): &(&[&str], &'static str)| {
        let names = list.lines().map(str::to_owned);
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned());
        prefixes
            .flat_map(move |prefix| names.clone().map(move |name| format!("{prefix}{name}")))
            .collect::<Vec<String>>()
    };
    LISTS.iter().flat_map(under).collect()
}

#[test]
fn each_property_of_debezium_and_kafka_connect_has_a_decision() {
    let open: Vec<String> = listed()
        .into_iter()
        .filter(|name| DECISIONS.of(name).is_none())
        .collect();
    assert!(
        open.is_empty(),
        "decide in specification/properties.txt: {open:#?}"
    );
}

#[test]
fn each_decision_is_on_a_property_that_there_is() {
    let listed = listed();
    let gone: Vec<&String> = DECISIONS
        .named
        .keys()
        .filter(|name| !listed.contains(*name) && !UNDECLARED.contains(&name.as_str()))
        .collect();
    assert!(gone.is_empty(), "nothing declares {gone:#?}");
}

#[test]
fn what_the_specification_sets_is_decided_as_its_own() {
    let fixed = FIXED.iter().map(|(name, _)| *name);
    let bounds: Vec<&str> = memory::bounds().into_iter().map(|(name, _)| name).collect();
    for name in fixed.chain(VARIABLE).chain(bounds) {
        let decision = DECISIONS.of(name).unwrap();
        assert_eq!(decision.verdict, Verdict::Ours, "{name}");
    }
}

#[test]
fn the_longest_beginning_decides_and_a_name_of_its_own_before_it() {
    let verdict = |name: &str| DECISIONS.of(name).map(|decision| decision.verdict);
    assert_eq!(
        verdict("topic.creation.g.retention.ms"),
        Some(Verdict::Ours)
    );
    assert_eq!(
        verdict("topic.creation.events.segment.bytes"),
        Some(Verdict::Refused)
    );
    assert_eq!(
        verdict("topic.creation.events.flush.ms"),
        Some(Verdict::Free("1.."))
    );
    assert_eq!(verdict("database.user"), Some(Verdict::Ours));
    assert_eq!(verdict("database.options"), Some(Verdict::Refused));
    assert_eq!(verdict("no.such.property"), None);
}

#[test]
fn an_unknown_name_has_near_ones() {
    assert_eq!(DECISIONS.nearest("databse.sslmode")[0], "database.sslmode");
    assert!(DECISIONS.nearest("zzz").is_empty());
}

#[test]
fn values_have_forms() {
    assert!(allows("", "anything"));
    assert!(allows("true|false", "true"));
    assert!(!allows("true|false", "yes"));
    for (value, allowed) in [
        ("0", true),
        ("599", false),
        ("600", true),
        ("", false),
        ("1s", false),
    ] {
        assert_eq!(allows("0|600..", value), allowed, "{value}");
    }
    assert!(allows("-1..10", "-1") && !allows("-1..10", "11"));
}
