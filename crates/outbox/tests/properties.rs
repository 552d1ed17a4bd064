//! The golden lists of properties are those of the running Kafka Connect, so a new version with a new property is noticed.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;

use outbox::Retention;
use outbox::specification::{Outline, Settings, Specification};
use serde_json::Value;
use stack::testing;

const CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";

const POSTGRES: &str = include_str!("golden/properties/postgres-documented.txt");
const CONNECT: &str = include_str!("golden/properties/connect.txt");
const ROUTER: &str = include_str!("golden/properties/router.txt");
const STRING: &str = include_str!("golden/properties/converter-string.txt");
const JSON: &str = include_str!("golden/properties/converter-json.txt");

async fn names(path: &str) -> BTreeSet<String> {
    let url = format!(
        "{}/connector-plugins/{path}",
        testing::stack().await.connect_url
    );
    let answer = reqwest::get(url).await.unwrap().error_for_status().unwrap();
    let definitions: Vec<Value> = answer.json().await.unwrap();
    definitions
        .iter()
        .map(|definition| definition["name"].as_str().unwrap().to_owned())
        .collect()
}

fn assert_listed(of: &str, running: &BTreeSet<String>, lists: &[&str]) {
    let listed: BTreeSet<String> = lists
        .iter()
        .flat_map(|list| list.lines().map(str::to_owned))
        .collect();
    let new: Vec<&String> = running.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(running).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{of} has the new properties {new:?}, and {gone:?} no more: correct tests/golden/properties, and decide on the new ones in \
         src/specification/properties.txt"
    );
}

#[tokio::test]
async fn the_golden_lists_are_those_of_the_running_connect() {
    assert_listed(
        CLASS,
        &names(&format!("{CLASS}/config")).await,
        &[POSTGRES, CONNECT],
    );
    let router = "io.debezium.transforms.outbox.EventRouter";
    assert_listed(router, &names(&format!("{router}/config")).await, &[ROUTER]);
    for (converter, list) in [
        ("org.apache.kafka.connect.storage.StringConverter", STRING),
        ("org.apache.kafka.connect.json.JsonConverter", JSON),
    ] {
        assert_listed(
            converter,
            &names(&format!("{converter}/config")).await,
            &[list],
        );
    }
}

/// A mistyped name is never refused by Kafka Connect, so the answer must know all that the specification sets.
#[tokio::test]
async fn kafka_connect_knows_each_property_that_the_specification_sets() {
    let stack = testing::stack().await;
    let specification = Specification::new(Outline {
        context: "properties".to_owned(),
        address: (stack.order_db.host.clone(), stack.order_db.port),
        database: stack.order_db.name.clone(),
        writers: vec!["order_service".to_owned()],
        keeper: "order_keeper".to_owned(),
        topics: vec!["properties".to_owned()],
        retention: Retention::default(),
        settings: Settings::of_role("order_cdc"),
    })
    .unwrap();
    let mut config = specification.to_json()["config"].clone();
    config["name"] = specification.name().into();
    let url = format!(
        "{}/connector-plugins/{CLASS}/config/validate",
        stack.connect_url
    );
    let answer = reqwest::Client::new()
        .put(url)
        .json(&config)
        .send()
        .await
        .unwrap();
    let validated: Value = answer.error_for_status().unwrap().json().await.unwrap();
    let known: BTreeSet<&str> = validated["configs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["value"]["name"].as_str())
        .collect();
    let unknown: Vec<&String> = config
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    // Kafka Connect reads these where it needs them, and does not list them.
    let unlisted = |name: &&&String| {
        !name.starts_with("topic.creation.")
            && !name.starts_with("snapshot.select.statement.overrides.public.")
            && !name.starts_with("driver.")
    };
    let unknown: Vec<&&String> = unknown.iter().filter(unlisted).collect();
    assert!(
        unknown.is_empty(),
        "Kafka Connect does not know {unknown:?}"
    );
}
