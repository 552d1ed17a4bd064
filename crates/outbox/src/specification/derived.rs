//! The connector's properties that follow from the specification, each with the reason for its value. An operator cannot set them
//! ([`Properties`](super::Properties) refuses them): other values lose events, reorder them, or carry them in another form. Every one was
//! run with Debezium 3.7.0, Kafka Connect 4.3.1 and PostgreSQL 18.

/// Properties that are the same for every outbox.
pub(super) const FIXED: [(&str, &str); 28] = [
    (
        "connector.class",
        "io.debezium.connector.postgresql.PostgresConnector",
    ),
    ("tasks.max", "1"),
    ("plugin.name", "pgoutput"),
    // The migrations make the publication, so the role needs no grant on tables but SELECT.
    ("publication.name", "outbox"),
    ("publication.autocreate.mode", "disabled"),
    ("table.include.list", "public.outbox,public.heartbeat"),
    // A lost slot heals: Debezium reads the whole outbox again, in the order of each aggregate.
    ("snapshot.mode", "when_needed"),
    ("snapshot.select.statement.overrides", "public.outbox"),
    (
        "snapshot.select.statement.overrides.public.outbox",
        "select * from public.outbox order by seq",
    ),
    // Without writes of its own, an idle outbox would hold back the write-ahead log of a busy server.
    ("heartbeat.interval.ms", "2000"),
    (
        "heartbeat.action.query",
        "with gone as (delete from heartbeat) insert into heartbeat default values",
    ),
    // Debezium's queue waits for this long even if it holds events: it is the latency.
    ("poll.interval.ms", "10"),
    ("producer.override.linger.ms", "0"),
    ("producer.override.enable.idempotence", "true"),
    // The connector drops no event, and retries without end.
    ("errors.tolerance", "none"),
    ("errors.max.retries", "-1"),
    ("retriable.restart.connector.wait.ms", "1000"),
    ("topic.creation.default.cleanup.policy", "delete"),
    (
        "key.converter",
        "org.apache.kafka.connect.storage.StringConverter",
    ),
    ("extended.headers.enabled", "false"),
    ("tombstones.on.delete", "false"),
    ("transforms", "heartbeat,outbox"),
    // The router fails on a captured table without a payload.
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
    (
        "transforms.outbox.type",
        "io.debezium.transforms.outbox.EventRouter",
    ),
    (
        "transforms.outbox.route.topic.replacement",
        "${routedByValue}",
    ),
];

/// Properties whose values differ between outboxes.
pub(super) const VARIABLE: [&str; 16] = [
    "topic.prefix",
    "database.hostname",
    "database.port",
    "database.user",
    "database.password",
    "database.dbname",
    "slot.name",
    "topic.creation.default.partitions",
    "topic.creation.default.replication.factor",
    "topic.creation.default.retention.ms",
    "topic.creation.default.segment.ms",
    "value.converter",
    "predicates.heartbeat.pattern",
    "transforms.outbox.table.fields.additional.placement",
    "exactly.once.support",
    "transaction.boundary",
];

/// Whether the specification sets a property, or leaves it out for a reason.
pub(super) fn derives(key: &str) -> bool {
    FIXED.iter().any(|(fixed, _)| *fixed == key)
        || VARIABLE.contains(&key)
        || key.starts_with("transforms")
        || key.starts_with("table.")
}
