//! The topics of a specification on a real broker: created, altered, and refused.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use outbox::Retention;
use outbox::specification::{Error, Outline, Settings, Specification, TopicsError};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use stack::services::Topic;
use stack::{testing, topic};
use uuid::Uuid;

/// An outbox with a topic of its own.
fn outbox(replication_factor: u16) -> Specification {
    Specification::new(Outline {
        context: "account".to_owned(),
        address: ("127.0.0.1".to_owned(), 5432),
        database: "account_db".to_owned(),
        writers: vec!["account_service".to_owned()],
        keeper: "account_keeper".to_owned(),
        topics: vec![format!("account-{}", Uuid::now_v7().simple())],
        retention: Retention::default(),
        settings: Settings {
            replication_factor,
            ..Settings::of_role("account_cdc")
        },
    })
    .unwrap()
}

/// The client of the stack's broker, and a topic as another tool has created it.
async fn made(outbox: &Specification, partitions: i32, config: &[(&str, &str)]) -> ClientConfig {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let made = Topic {
        name: outbox.topics[0].clone(),
        partitions,
        replication_factor: 1,
        config: config.iter().map(own).collect::<BTreeMap<_, _>>(),
    };
    let kafka = kafka().await;
    topic::create(kafka.get("bootstrap.servers").unwrap(), &[made])
        .await
        .unwrap();
    kafka
}

async fn kafka() -> ClientConfig {
    let mut kafka = ClientConfig::new();
    kafka.set("bootstrap.servers", &testing::stack().await.kafka);
    kafka
}

/// The differences that the check names, as text.
async fn drifts(outbox: &Specification, kafka: &ClientConfig) -> Vec<String> {
    match outbox.check_topics(kafka).await {
        Ok(()) => Vec::new(),
        Err(Error::Drifted(drifts)) => drifts.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_missing_topic_is_named_and_created_as_declared() {
    let (outbox, kafka) = (outbox(1), kafka().await);
    let named = drifts(&outbox, &kafka).await;
    assert!(named[0].contains("and has nothing"), "{named:?}");
    let applied = outbox.apply_topics(&kafka).await.unwrap();
    assert_eq!(
        applied.changes,
        [format!(
            "created topic {} with 6 partitions",
            outbox.topics[0]
        )]
    );
    assert_eq!(
        drifts(&outbox, &kafka).await,
        applied
            .left
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    );
    assert_eq!(applied.left, []);
    let again = outbox.apply_topics(&kafka).await.unwrap();
    assert_eq!((again.changes.len(), again.left.len()), (0, 0));
}

#[tokio::test]
async fn a_topic_that_exists_is_given_what_is_declared_and_keeps_everything_else() {
    let outbox = outbox(1);
    let lossy = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "60000"),
        ("segment.bytes", "123456789"),
    ];
    let kafka = made(&outbox, 6, &lossy).await;
    let named = drifts(&outbox, &kafka).await.join("\n");
    for key in ["cleanup.policy", "retention.ms"] {
        assert!(named.contains(key), "{named}");
    }
    let applied = outbox.apply_topics(&kafka).await.unwrap();
    assert_eq!(applied.left, []);
    let changes = applied.changes.join("\n");
    assert!(
        changes.contains("retention.ms is 604800000, was 60000"),
        "{changes}"
    );
    assert!(drifts(&outbox, &kafka).await.is_empty());

    let admin: AdminClient<_> = kafka.create().unwrap();
    let topic = [ResourceSpecifier::Topic(&outbox.topics[0])];
    let described = admin.describe_configs(&topic, &AdminOptions::new());
    let described = described.await.unwrap().remove(0).unwrap();
    let kept = described.get("segment.bytes").unwrap();
    assert_eq!(kept.value.as_deref(), Some("123456789"));
}

#[tokio::test]
async fn partitions_and_replicas_are_refused_with_the_remedy_and_not_changed() {
    for (partitions, remedy) in [(3, "--alter --topic"), (12, "--delete --topic")] {
        let outbox = outbox(1);
        let kafka = made(&outbox, partitions, &[]).await;
        let applied = outbox.apply_topics(&kafka).await.unwrap();
        let left: Vec<String> = applied.left.iter().map(ToString::to_string).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].contains(remedy), "{left:?}");
        assert_eq!(drifts(&outbox, &kafka).await, left);
    }
    let outbox = outbox(3);
    let kafka = made(&outbox, 6, &[]).await;
    let named = drifts(&outbox, &kafka).await.join("\n");
    assert!(named.contains("replicas of a partition"), "{named}");
}

#[tokio::test]
async fn kafka_that_refuses_or_is_away_is_an_error() {
    // One broker cannot hold three replicas.
    let refused = outbox(3).apply_topics(&kafka().await).await.unwrap_err();
    assert!(
        matches!(
            refused,
            TopicsError::Refused {
                request: "create",
                ..
            }
        ),
        "{refused}"
    );
    let mut away = ClientConfig::new();
    away.set("bootstrap.servers", "127.0.0.1:1");
    let error = outbox(1).check_topics(&away).await.unwrap_err();
    assert!(
        error.to_string().contains("see that Kafka is up"),
        "{error}"
    );
}
