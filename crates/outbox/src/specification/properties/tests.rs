use super::*;

fn set(name: &str, value: &str) -> Result<Properties, Reserved> {
    Properties::new([(name.to_owned(), value.to_owned())].into())
}

#[test]
fn what_loses_events_is_refused() {
    for strategy in ["trust_slot", "trust_greater_lsn", "whatever"] {
        let refused = set("offset.mismatch.strategy", strategy).unwrap_err();
        assert!(matches!(&refused, Reserved::Value { value, .. } if value == strategy));
        assert!(
            refused.to_string().contains("lose every event"),
            "{refused}"
        );
    }
    for key in [
        "errors.tolerance",
        "snapshot.mode",
        "slot.name",
        "database.password",
        "exactly.once.support",
    ] {
        assert_eq!(set(key, "x"), Err(Reserved::Derived(key.to_owned())));
    }
    let secret = "producer.override.ssl.key.password";
    assert_eq!(set(secret, "x"), Err(Reserved::Secret(secret.to_owned())));
    assert!(set(secret, "${dir:/run/secrets:kafka}").is_ok());
    assert!(set("database.sslmode", "verify-full").is_ok());
    assert!(set("offset.mismatch.strategy", "trust_offset").is_ok());
}

/// Each was accepted once, and tried on the real parts: connector and task RUNNING, and no event, or another one, in Kafka.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of properties")]
fn each_property_that_lost_or_altered_events_when_it_was_tried_is_refused_with_the_reason() {
    for (name, value, reason) in [
        ("schema.exclude.list", "public", "can exclude the outbox"),
        ("schema.include.list", "x", "can exclude the outbox"),
        (
            "internal.log.position.check.enable",
            "false",
            "hides a lost slot",
        ),
        (
            "snapshot.include.collection.list",
            "public.heartbeat",
            "healed with",
        ),
        (
            "topic.naming.strategy",
            "io.debezium.schema.SchemaRegexTopicNamingStrategy",
            "the outbox can get the heartbeat's",
        ),
        (
            "topic.regex",
            r"(.*)\.outbox",
            "the outbox can get the heartbeat's",
        ),
        (
            "topic.replacement",
            "$1.heartbeat",
            "the outbox can get the heartbeat's",
        ),
        ("column.mask.with.3.chars", "public.outbox.payload", "masks"),
        (
            "column.truncate.to.3.chars",
            "public.outbox.payload",
            "cuts",
        ),
        (
            "column.mask.hash.SHA-256.with.salt.x",
            "public.outbox.payload",
            "masks",
        ),
        (
            "column.exclude.list",
            "public.outbox.traceparent",
            "removes",
        ),
        (
            "internal.slot.seek.to.known.offset.on.start",
            "true",
            "Debezium's own",
        ),
        ("topic.creation.events.segment.bytes", "1", "deletes events"),
        (
            "producer.override.bootstrap.servers",
            "elsewhere:9092",
            "another cluster",
        ),
        (
            "producer.override.partitioner.class",
            "x.Y",
            "the order of a key's events",
        ),
        ("converters", "x", "a class of another origin"),
        ("post.processors", "x", "a class of another origin"),
        ("post.processors.x.type", "x", "a class of another origin"),
        (
            "sourceinfo.struct.maker",
            "x.Y",
            "a class of another origin",
        ),
        (
            "value.converter.schemas.enable",
            "false",
            "how columns and keys are written",
        ),
        (
            "key.converter.converter.encoding",
            "UTF-16",
            "how columns and keys are written",
        ),
        (
            "database.initial.statements",
            "drop table outbox",
            "any SQL",
        ),
        ("database.options", "-c search_path=nowhere", "the driver"),
        (
            "slot.drop.on.stop",
            "true",
            "rows that the keeper has deleted",
        ),
        ("lsn.flush.mode", "manual", "never advances"),
        ("flush.lsn.source", "false", "never advances"),
        ("provide.transaction.metadata", "true", "foreign records"),
        ("topic.heartbeat.name", "order", "foreign records"),
        ("notification.sink.topic.name", "order", "foreign records"),
        ("topic.delimiter", "_", "by which the heartbeat is filtered"),
        ("custom.sanitize.pattern", ".*x", "masks passwords"),
        (
            "producer.override.ssl.keystore.key",
            "${dir:/run/secrets:key}",
            "into its log",
        ),
        (
            "producer.override.sasl.oauthbearer.assertion.private.key.passphrase",
            "${dir:/run/secrets:key}",
            "into its log",
        ),
        (
            "errors.log.include.messages",
            "true",
            "the contents of events into the log",
        ),
        ("snapshot.locking.mode", "shared", "locks the outbox"),
        ("offsets.storage.topic", "x", "forgets its position"),
    ] {
        let refused = set(name, value).unwrap_err();
        assert!(matches!(&refused, Reserved::Refused { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(name) && text.contains(reason), "{text}");
    }
    for name in [
        "skipped.operations",
        "driver.options",
        "event.processing.failure.handling.mode",
        "event.converting.failure.handling.mode",
        "topic.creation.groups",
        "topic.creation.g.include",
        "topic.creation.g.retention.ms",
        "producer.override.partitioner.ignore.keys",
        "producer.override.interceptor.classes",
        "producer.override.acks",
        "producer.override.max.in.flight.requests.per.connection",
        "header.converter",
        "transforms.mine.type",
        "predicates.mine.type",
        "name",
        "snapshot.fetch.size",
        "snapshot.select.statement.overrides.public.outbox",
        "table.exclude.list",
    ] {
        assert_eq!(set(name, "x"), Err(Reserved::Derived(name.to_owned())));
    }
}

#[test]
fn a_name_is_compared_exactly_and_an_unknown_one_is_refused_with_the_nearest() {
    let refused = set("databse.sslmode", "require").unwrap_err();
    assert!(
        refused.to_string().contains("(similar: database.sslmode"),
        "{refused}"
    );
    for name in ["Slot.name", " slot.name", "slot.name ", "database", ""] {
        let refused = set(name, "x");
        assert!(
            matches!(refused, Err(Reserved::Unknown { .. })),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn what_bears_no_secret_is_no_reference() {
    for name in [
        "custom.metric.tags",
        "producer.override.client.id",
        "database.sslmode",
    ] {
        let refused = set(name, "x=${dir:/run/secrets:order_cdc}");
        assert_eq!(refused, Err(Reserved::Reference(name.to_owned())));
    }
}

#[test]
fn a_free_property_has_its_bounds() {
    for (name, value) in [
        ("driver.socketTimeout", "30"),
        ("database.query.timeout.ms", "1000"),
        ("status.update.interval.ms", "120000"),
        ("errors.retry.timeout", "-1"),
        ("slot.max.retries", "many"),
        ("producer.override.compression.type", "zstd"),
        ("topic.creation.events.flush.ms", "0"),
        ("slot.failover", "yes"),
    ] {
        let refused = set(name, value);
        assert!(
            matches!(refused, Err(Reserved::Value { .. })),
            "{name}: {refused:?}"
        );
    }
    for (name, value) in [
        ("driver.socketTimeout", "0"),
        ("status.update.interval.ms", "5000"),
        ("producer.override.compression.type", "lz4"),
        ("slot.failover", "true"),
        ("producer.override.security.protocol", "SASL_SSL"),
        ("database.sslrootcert", "/etc/ssl/db-authority.pem"),
    ] {
        assert!(set(name, value).is_ok(), "{name}");
    }
}
