//! The connector's properties that follow from the specification, each with the reason for its value. An operator cannot set them
//! ([`Properties`](super::Properties) refuses them): other values lose events, reorder them, or carry them in another form. Every one was
//! run with Debezium 3.7.0, Kafka Connect 4.3.1 and PostgreSQL 18. Those that bound bytes are in `memory.rs`.

/// The group of the topics that Kafka Connect may create.
pub(super) const TOPIC_GROUP: &str = "events";

/// Properties that are the same for every outbox.
pub(super) const FIXED: [(&str, &str); 42] = [
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
    // The publication has inserts only. Without them, no event but those of a snapshot arrives.
    ("skipped.operations", "t"),
    // A lost slot heals: Debezium reads the whole outbox again, in the order of each aggregate.
    ("snapshot.mode", "when_needed"),
    ("snapshot.select.statement.overrides", "public.outbox"),
    (
        "snapshot.select.statement.overrides.public.outbox",
        "select * from public.outbox order by seq",
    ),
    // With the index on `seq`, the first row comes at once. Where rows were removed and their pages used again, PostgreSQL would rather
    // sort the whole table before it.
    ("driver.options", "-c enable_sort=off"),
    // Without writes of its own, an idle outbox would hold back the write-ahead log of a busy server.
    ("heartbeat.interval.ms", "2000"),
    (
        "heartbeat.action.query",
        "with gone as (delete from heartbeat) insert into heartbeat default values",
    ),
    // Debezium's queue waits for this long even if it holds events: it is the latency.
    ("poll.interval.ms", "10"),
    ("producer.override.linger.ms", "0"),
    // A worker's file may hold other values for all connectors; these win.
    ("producer.override.enable.idempotence", "true"),
    ("producer.override.acks", "all"),
    // Of several requests in flight the second is first where a topic is new (run), idempotence or not: the broker refuses the first, becomes
    // the leader, and takes the second. The first is then out of order, again and again.
    (
        "producer.override.max.in.flight.requests.per.connection",
        "1",
    ),
    // For ever. An event that expires, as when its topic was deleted, is overtaken by the next one of its key: the producer still sends that one
    // while the task ends (run).
    ("producer.override.delivery.timeout.ms", "2147483647"),
    // Kafka Connect's own is for ever: where a topic is missing that it may not create, its task stands in silence, RUNNING. A task that has
    // failed says so. The event that finds no topic is not sent, and so none after it is.
    ("producer.override.max.block.ms", "60000"),
    ("producer.override.partitioner.ignore.keys", "false"),
    ("producer.override.interceptor.classes", ""),
    ("transaction.boundary", "poll"),
    // The connector drops no event, and retries without end.
    ("event.processing.failure.handling.mode", "fail"),
    // Debezium's default leaves out a column that it cannot convert, and goes on.
    ("event.converting.failure.handling.mode", "fail"),
    ("errors.tolerance", "none"),
    ("errors.max.retries", "-1"),
    ("retriable.restart.connector.wait.ms", "1000"),
    // Kafka Connect creates the topics of this group and no other: what matches none has more replicas than any broker grants, so the
    // task fails, and says why.
    ("topic.creation.groups", TOPIC_GROUP),
    ("topic.creation.default.partitions", "1"),
    ("topic.creation.default.replication.factor", "32767"),
    (
        "key.converter",
        "org.apache.kafka.connect.storage.StringConverter",
    ),
    // The event's id and type are headers. Otherwise the worker's file would choose their form.
    (
        "header.converter",
        "org.apache.kafka.connect.storage.SimpleHeaderConverter",
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
#[cfg(test)]
pub(super) const VARIABLE: [&str; 20] = [
    "topic.prefix",
    "database.hostname",
    "database.port",
    "database.user",
    "database.password",
    "database.dbname",
    "slot.name",
    "topic.creation.events.include",
    "topic.creation.events.partitions",
    "topic.creation.events.replication.factor",
    "topic.creation.events.cleanup.policy",
    "topic.creation.events.max.message.bytes",
    "topic.creation.events.min.insync.replicas",
    "topic.creation.events.retention.bytes",
    "topic.creation.events.retention.ms",
    "topic.creation.events.segment.ms",
    "value.converter",
    "predicates.heartbeat.pattern",
    "transforms.outbox.table.fields.additional.placement",
    "exactly.once.support",
];
