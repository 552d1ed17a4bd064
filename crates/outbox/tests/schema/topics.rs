//! The topics that rows may go to.

use outbox::schema::{Error, Part, Roles, migrate};
use sqlx::error::DatabaseError;
use sqlx::{Connection, PgConnection};
use stack::testing::{Context, Database, database};
use uuid::Uuid;

use crate::owner;

/// The roles of a database whose outbox publishes to `topics`.
fn roles(topics: &[&str]) -> Roles {
    let roles = Roles::default().writer("order_service");
    topics
        .iter()
        .fold(roles, |roles, topic| roles.topic(*topic))
}

async fn publishing_to(topics: &[&str]) -> Database {
    let database = database(Context::Order).await;
    migrate(
        &mut owner(&database).await,
        &[Part::Publisher],
        &roles(topics),
    )
    .await
    .unwrap();
    database
}

async fn service(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options("order_service"))
        .await
        .unwrap()
}

/// The constraint that refuses a row, if any does.
async fn refuses(service: &mut PgConnection, topic: &str) -> Option<String> {
    let inserted = sqlx::query(
        "insert into outbox (id, aggregatetype, aggregateid, type, payload) values ($1, $2, 'k', 'order.placed', '{}')",
    )
    .bind(Uuid::now_v7())
    .bind(topic)
    .execute(service)
    .await;
    let error = inserted.err()?;
    let constraint = error
        .as_database_error()
        .and_then(DatabaseError::constraint);
    // A name of more than 255 characters does not fit the column.
    Some(constraint.map_or_else(|| error.to_string(), str::to_owned))
}

#[tokio::test]
async fn a_row_goes_to_a_topic_of_the_specification_or_nowhere() {
    let database = publishing_to(&["order", "order-audit"]).await;
    let mut service = service(&database).await;
    for topic in ["order", "order-audit"] {
        assert_eq!(refuses(&mut service, topic).await, None);
    }
    let long = "a".repeat(250);
    for topic in [
        "orders",
        "Order",
        "order ",
        "sales order",
        "reservation",
        "connect-configs",
        "",
        ".",
        "..",
        "bestellung-ä",
        "order\n",
        "__consumer_offsets",
        &long,
    ] {
        let refused = refuses(&mut service, topic).await;
        let refused = refused.unwrap_or_else(|| panic!("{topic:?} was accepted"));
        assert!(refused.starts_with("outbox_topic"), "{topic:?}: {refused}");
    }
}

/// Without topics the table takes every name that Kafka takes.
#[tokio::test]
async fn a_name_that_kafka_refuses_is_refused_whatever_the_topics() {
    let database = publishing_to(&[]).await;
    let mut service = service(&database).await;
    assert_eq!(refuses(&mut service, "Any.topic_1-a").await, None);
    for topic in [
        "sales order",
        "",
        "..",
        "ä",
        "__consumer_offsets",
        &"a".repeat(250),
    ] {
        let refused = refuses(&mut service, topic).await;
        assert_eq!(refused.as_deref(), Some("outbox_topic_name"), "{topic:?}");
    }
}

#[tokio::test]
async fn the_topics_follow_the_specification_and_a_second_run_changes_nothing() {
    let database = publishing_to(&["order"]).await;
    let mut owner = owner(&database).await;
    let mut service = service(&database).await;
    assert!(refuses(&mut service, "audit").await.is_some());

    let both = roles(&["order", "audit"]);
    migrate(&mut owner, &[Part::Publisher], &both)
        .await
        .unwrap();
    assert_eq!(refuses(&mut service, "audit").await, None);

    // A second run takes no lock on the table: a transaction that has written to it may stay open.
    let constraint = "select oid::integer from pg_constraint where conname = 'outbox_topics'";
    let before: i32 = sqlx::query_scalar(constraint)
        .fetch_one(&mut owner)
        .await
        .unwrap();
    migrate(&mut owner, &[Part::Publisher], &both)
        .await
        .unwrap();
    let after: i32 = sqlx::query_scalar(constraint)
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(before, after);

    // A row of a topic that is no longer published to stays.
    migrate(&mut owner, &[Part::Publisher], &roles(&["order"]))
        .await
        .unwrap();
    assert!(refuses(&mut service, "audit").await.is_some());
    // A service that names no topic, such as one that only listens, changes none.
    migrate(&mut owner, &[Part::Publisher], &roles(&[]))
        .await
        .unwrap();
    assert!(refuses(&mut service, "audit").await.is_some());
}

#[tokio::test]
async fn a_topic_that_kafka_refuses_is_refused_before_anything_is_granted() {
    let database = database(Context::Order).await;
    let hostile = roles(&["sales order'; drop table outbox; --"]);
    let migrated = migrate(&mut owner(&database).await, &[Part::Publisher], &hostile).await;
    assert!(matches!(migrated, Err(Error::Topic { .. })));
    let refused = refuses(&mut service(&database).await, "order").await;
    assert!(refused.unwrap().contains("permission denied"));
}
