//! What is appended reads back equal, in every wire form.

mod content;
mod refused;

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use stack::testing::{self, Context};

use self::content::{any_value, content, float, note, text, wild};
use super::*;
use crate::message::{Message, Position};

const ID: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

/// An event with any payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Note<T> {
    #[serde(rename = "note.made")]
    Made(T),
    #[serde(rename = "note.named")]
    Named { event_id: Uuid, content: T },
    #[serde(rename = "note.seen")]
    Seen,
}

impl<T: Serialize + DeserializeOwned> Event for Note<T> {
    const AGGREGATE_TYPE: &'static str = "note";
    fn id(&self) -> Uuid {
        match self {
            Self::Named { event_id, .. } => *event_id,
            Self::Made(_) | Self::Seen => ID,
        }
    }
    fn aggregate_id(&self) -> String {
        "n1".to_owned()
    }
}

/// A message of a row, by the headers that name its type and by its value.
fn message(row: &Outgoing, header: Option<&str>, value: &str) -> Message {
    let mut headers = vec![("id".to_owned(), Some(row.id.to_string().into_bytes()))];
    headers.extend(header.map(|name| (name.to_owned(), Some(row.event_type.clone().into_bytes()))));
    Message {
        at: Position {
            topic: row.aggregate_type.clone(),
            partition: 0,
            offset: 0,
        },
        timestamp: None,
        key: Some(row.aggregate_id.clone().into_bytes()),
        headers,
        value: Some(value.as_bytes().to_vec()),
    }
}

/// The row as a message, in each form in which the value's text alone shows what the payload is.
fn forms(row: &Outgoing, payload: &str) -> Vec<Message> {
    let schema = json!({ "type": "string", "optional": false });
    let envelope = json!({ "payload": payload, "event_type": row.event_type });
    let with_schema = json!({ "schema": schema, "payload": envelope });
    let mut forms = vec![
        message(row, Some("event_type"), payload),
        message(row, Some("eventType"), payload),
        message(row, None, &with_schema.to_string()),
        message(row, None, &envelope.to_string()),
    ];
    // The router expands objects and arrays only: `table.expand.json.payload`.
    if payload.starts_with(['{', '[']) {
        let kind = json::write(&row.event_type).unwrap();
        let expanded = format!(r#"{{"payload":{payload},"event_type":{kind}}}"#);
        let with_schema = format!(r#"{{"schema":{schema},"payload":{expanded}}}"#);
        forms.extend([&expanded, &with_schema].map(|value| message(row, None, value)));
    }
    forms
}

fn assert_reads_back<E: Event + Debug + PartialEq>(event: &E, row: &Outgoing, payload: &str) {
    for message in forms(row, payload) {
        let decoded = message.decode().unwrap();
        assert_eq!(
            (decoded.id, &decoded.event_type),
            (event.id(), &row.event_type)
        );
        let read: E = decoded.into_event().unwrap();
        // With `serde_json`'s feature `preserve_order`, `jsonb` changes the order of an object's fields, which is no part of its value.
        assert_eq!(&read, event, "{message:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn an_event_reads_back_equal_in_every_form(event in note(content()), named in content()) {
        let row = Outgoing::new(&event).unwrap();
        assert_reads_back(&event, &row, &row.payload);
        let named = Note::Named { event_id: ID, content: named };
        let row = Outgoing::new(&named).unwrap();
        assert_reads_back(&named, &row, &row.payload);
    }

    #[test]
    fn an_event_reads_back_equal_or_is_refused(event in note(wild())) {
        if let Ok(row) = Outgoing::new(&event) {
            assert_reads_back(&event, &row, &row.payload);
        }
    }

    #[test]
    fn a_bare_payload_reads_back_equal(text in text(), value in any_value(), number in float()) {
        let event = Note::Made(text);
        let row = Outgoing::new(&event).unwrap();
        assert_reads_back(&event, &row, &row.payload);
        let event = Note::Made(number);
        let row = Outgoing::new(&event).unwrap();
        assert_reads_back(&event, &row, &row.payload);
        let event = Note::Made(value);
        match Outgoing::new(&event) {
            Ok(row) => assert_reads_back(&event, &row, &row.payload),
            // Its `event_id` may be another one.
            Err(refused) => assert!(matches!(refused, Unpublishable::IdsDiffer { .. })),
        }
    }
}

#[tokio::test]
async fn the_database_changes_no_event() {
    let database = testing::database(Context::Order).await;
    let mut connection = PgConnection::connect_with(&database.options("order_owner"))
        .await
        .unwrap();
    let mut runner = TestRunner::deterministic();
    let strategy = note(prop_oneof![content(), wild()]);
    let mut appended = Vec::new();
    while appended.len() < 3000 {
        let event = strategy.new_tree(&mut runner).unwrap().current();
        if let Ok(row) = Outgoing::new(&event) {
            appended.push((event, row));
        }
    }
    let payloads: Vec<&str> = appended
        .iter()
        .map(|(_, row)| row.payload.as_str())
        .collect();
    let stored: Vec<String> = sqlx::query_scalar(
        "select payload::jsonb::text from unnest($1::text[]) with ordinality as row (payload, position)
         order by position",
    )
    .bind(payloads)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for ((event, row), payload) in appended.iter().zip(&stored) {
        assert_reads_back(event, row, payload);
    }
}

#[test]
fn an_event_becomes_a_row() {
    let row = Outgoing::new(&Note::Made(json!({ "text": "hi" }))).unwrap();
    assert_eq!(row.event_type, "note.made");
    assert_eq!(row.payload, r#"{"text":"hi"}"#);
    assert_eq!(
        (row.aggregate_type.as_str(), row.aggregate_id.as_str()),
        ("note", "n1")
    );
}

#[test]
fn a_payload_that_looks_like_a_wire_form_is_taken_whole() {
    for content in [
        json!("123"),
        json!("\"q\""),
        json!({ "event_type": "note.seen", "payload": "{}" }),
        json!({ "schema": null, "payload": "{}" }),
        json!({ "schema": {}, "payload": { "payload": 1, "event_type": "x" } }),
    ] {
        let event = Note::Made(content);
        let row = Outgoing::new(&event).unwrap();
        assert_reads_back(&event, &row, &row.payload);
        let decoded = message(&row, Some("event_type"), &row.payload).decode();
        assert_eq!(Note::Made(decoded.unwrap().payload), event);
    }
}

#[test]
fn a_unit_variant_is_published_with_a_null_payload() {
    let row = Outgoing::new(&Note::<()>::Seen).unwrap();
    assert_eq!(
        (row.event_type.as_str(), row.payload.as_str()),
        ("note.seen", "null")
    );
    assert_reads_back(&Note::<()>::Seen, &row, &row.payload);
}
