//! What is appended reads back equal, in every wire form; everything else is refused with the reason.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use stack::testing::{self, Context};

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

fn assert_reads_back<E: Event + Debug>(event: &E, row: &Outgoing, payload: &str) {
    for message in forms(row, payload) {
        let decoded = message.decode().unwrap();
        assert_eq!(
            (decoded.id, &decoded.event_type),
            (event.id(), &row.event_type)
        );
        let read: E = decoded.into_event().unwrap();
        // Unlike `==`, it shows the sign of zero.
        assert_eq!(format!("{read:?}"), format!("{event:?}"), "{message:?}");
    }
}

/// Every type that serde writes differently.
#[expect(clippy::option_option, reason = "an event may have one")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Content {
    Bool(bool),
    Signed(i8, i16, i32, i64),
    Unsigned(u8, u16, u32, u64),
    Wide(i128, u128),
    Floats(f32, f64),
    Text(char, String),
    Optional(Option<f64>, Option<String>),
    Nested(Option<Option<bool>>, Option<()>),
    List(Vec<Content>),
    Array([u8; 3]),
    Integers(BTreeMap<i32, f64>, BTreeMap<u64, String>),
    Keys(BTreeMap<bool, u8>, BTreeMap<char, u8>, BTreeMap<Unit, u8>),
    Names(BTreeMap<String, Content>),
    Unit,
    Untagged(Untagged),
    Internal(Internal),
    Flat(Flat),
    Any(Value),
    Id(Uuid),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Integer(i64),
    Float(f64),
    Text(String),
    Pair(u8, f32),
    Map(BTreeMap<u8, f64>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "payload")]
enum Internal {
    Number { event_type: f64, schema: u64 },
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    rest: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unset: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Unit {
    One,
    #[serde(rename = "$serde_json::private::Number")]
    Two,
}

/// Texts that a reader might take for something else.
fn text() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "",
        "123",
        "1.5",
        "\"q\"",
        "null",
        "{}",
        "payload",
        "event_type",
        "schema",
        "type",
        "$serde_json::private::Number",
        "$serde_json::private::RawValue",
        r#"{"schema":{},"payload":"x"}"#,
    ];
    prop_oneof![
        proptest::sample::select(KNOWN).prop_map(str::to_owned),
        any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
}

/// Finite, and not the negative zero.
fn float() -> impl Strategy<Value = f64> {
    const KNOWN: &[f64] = &[
        0.0,
        1.5,
        1.577_777_777_777_000_1,
        1e15,
        1e16,
        1e300,
        5e-324,
        f64::MAX,
        f64::MIN,
    ];
    prop_oneof![
        proptest::sample::select(KNOWN),
        (proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL),
    ]
}

/// Any JSON, but for names that `serde_json`'s own `Value` takes for something else.
fn any_value() -> impl Strategy<Value = Value> {
    any_value_of(text().prop_filter("serde_json's own", |name| !name.starts_with("$serde_json")))
}

fn any_value_of(name: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = Value> {
    let name = name.boxed();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        float().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What must be accepted.
fn content() -> impl Strategy<Value = Content> {
    let map = || proptest::collection::btree_map(text(), float(), 0..3);
    let character = any::<char>().prop_filter("jsonb has none", |it| *it != '\0');
    let unit = proptest::sample::select(&[Unit::One, Unit::Two][..]);
    let f32s = || proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL;
    let leaf = prop_oneof![
        any::<bool>().prop_map(Content::Bool),
        any::<(i8, i16, i32, i64)>().prop_map(|(a, b, c, d)| Content::Signed(a, b, c, d)),
        any::<(u8, u16, u32, u64)>().prop_map(|(a, b, c, d)| Content::Unsigned(a, b, c, d)),
        any::<(i64, u64)>().prop_map(|(a, b)| Content::Wide(a.into(), b.into())),
        (f32s(), float()).prop_map(|(a, b)| Content::Floats(a, b)),
        (character, text()).prop_map(|(a, b)| Content::Text(a, b)),
        (proptest::option::of(float()), proptest::option::of(text()))
            .prop_map(|(a, b)| Content::Optional(a, b)),
        any::<[u8; 3]>().prop_map(Content::Array),
        (
            proptest::collection::btree_map(any::<i32>(), float(), 0..3),
            proptest::collection::btree_map(any::<u64>(), text(), 0..3)
        )
            .prop_map(|(a, b)| Content::Integers(a, b)),
        (any::<bool>(), unit).prop_map(|(a, c)| Content::Keys(
            [(a, 1)].into(),
            [('ä', 2)].into(),
            [(c, 3)].into()
        )),
        Just(Content::Unit),
        Just(Content::Nested(None, None)),
        prop_oneof![
            any::<i64>().prop_map(Untagged::Integer),
            float().prop_map(Untagged::Float),
            text().prop_map(Untagged::Text),
            (any::<u8>(), f32s()).prop_map(|(a, b)| Untagged::Pair(a, b)),
        ]
        .prop_map(Content::Untagged),
        prop_oneof![
            Just(Internal::Nothing),
            (float(), any::<u64>())
                .prop_map(|(event_type, schema)| Internal::Number { event_type, schema }),
        ]
        .prop_map(Content::Internal),
        (text(), map()).prop_map(|(name, mut rest)| {
            // Of two fields of one name, one would be lost.
            rest.retain(|field, _| field != "name" && field != "unset");
            let unset = None;
            Content::Flat(Flat { name, rest, unset })
        }),
        any_value().prop_map(Content::Any),
        any::<u128>().prop_map(|id| Content::Id(Uuid::from_u128(id))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Content::List),
            proptest::collection::btree_map(text(), inner, 0..3).prop_map(Content::Names),
        ]
    })
}

/// What may be refused, too.
fn wild() -> impl Strategy<Value = Content> {
    prop_oneof![
        any::<(i128, u128)>().prop_map(|(a, b)| Content::Wide(a, b)),
        (proptest::num::f32::ANY, proptest::num::f64::ANY).prop_map(|(a, b)| Content::Floats(a, b)),
        any_value_of(text()).prop_map(Content::Any),
        any::<Option<f64>>().prop_map(|a| Content::Optional(a, None)),
        any::<(char, String)>().prop_map(|(a, b)| Content::Text(a, b)),
        any::<Option<Option<bool>>>().prop_map(|a| Content::Nested(a, a.map(|_| ()))),
        proptest::collection::btree_map(any::<u8>(), float(), 0..3)
            .prop_map(|map| Content::Untagged(Untagged::Map(map))),
        (text(), proptest::num::f64::ANY).prop_map(|(field, value)| {
            let (name, rest) = (String::new(), [(field, value)].into());
            Content::Flat(Flat {
                name,
                rest,
                unset: Some(1),
            })
        }),
    ]
}

fn note<T: Debug + Clone + 'static>(
    content: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Note<T>> {
    prop_oneof![
        8 => content.prop_map(|content| Note::Made(content)).boxed(),
        1 => Just(Note::Seen),
    ]
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

fn refusal<T: Serialize + DeserializeOwned>(content: T) -> String {
    Outgoing::new(&Note::Made(content)).unwrap_err().to_string()
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

#[test]
fn a_number_that_would_not_arrive_is_refused_with_the_reason() {
    assert!(refusal(f64::NAN).contains("no number NaN"));
    assert!(refusal(Some(f32::INFINITY)).contains("no number inf"));
    assert!(refusal(vec![-0.0]).contains("negative zero"));
    assert!(refusal(i128::MAX).contains("make it a string"));
    assert!(refusal(u128::MAX).contains("make it a string"));
    assert!(Outgoing::new(&Note::Made((u64::MAX, i64::MIN))).is_ok());
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Greedy {
    First(String),
    Second(char),
}

#[derive(Serialize, Deserialize)]
struct Forgets {
    #[serde(skip_deserializing)]
    lost: u8,
}

#[derive(Serialize, Deserialize)]
struct IntegerKeys {
    #[serde(flatten)]
    keys: BTreeMap<u8, u8>,
}

#[test]
fn what_reads_back_as_something_else_is_refused_with_the_reason() {
    // Both of its variants write the same text, so nothing is lost.
    assert!(Outgoing::new(&Note::Made(Greedy::Second('a'))).is_ok());

    let refused = Outgoing::new(&Note::Made(Forgets { lost: 1 }));
    assert!(matches!(refused, Err(Unpublishable::Changed { .. })));

    let keys = [(1, 1)].into();
    let refused = Outgoing::new(&Note::Made(IntegerKeys { keys }));
    assert!(matches!(refused, Err(Unpublishable::Undecodable { .. })));

    assert!(refusal(Some(None::<u8>)).contains("read back as none"));
    let deep = (0..200).fold(Value::Null, |inner, _| Value::from(vec![inner]));
    assert!(refusal(deep).contains("recursion limit"));
}

/// An event whose names are values.
#[derive(Debug, Clone)]
struct Named {
    id: Uuid,
    kind: String,
    key: String,
    payload: Value,
}

impl Serialize for Named {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "type": self.kind, "payload": self.payload }).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            r#type: String,
            payload: Value,
        }
        let Tagged {
            r#type: kind,
            payload,
        } = Tagged::deserialize(deserializer)?;
        let (id, key) = (ID, String::new());
        Ok(Self {
            id,
            kind,
            key,
            payload,
        })
    }
}

impl Event for Named {
    const AGGREGATE_TYPE: &'static str = "note";
    fn id(&self) -> Uuid {
        self.id
    }
    fn aggregate_id(&self) -> String {
        self.key.clone()
    }
}

#[test]
fn names_that_would_not_arrive_are_refused_with_the_reason() {
    let good = Named {
        id: ID,
        kind: "note.made".to_owned(),
        key: "k".to_owned(),
        payload: json!({ "event_id": ID }),
    };
    assert!(Outgoing::new(&good).is_ok());
    let refused = |change: fn(&mut Named)| {
        let mut event = good.clone();
        change(&mut event);
        Outgoing::new(&event).unwrap_err()
    };
    assert!(matches!(
        refused(|it| it.id = Uuid::nil()),
        Unpublishable::NilId
    ));
    for kind in ["", "\"note.made\"", r#"{"payload":"x"}"#] {
        let mut event = good.clone();
        event.kind = kind.to_owned();
        assert!(
            matches!(Outgoing::new(&event), Err(Unpublishable::Type(_))),
            "{kind}"
        );
    }
    for nul in [
        |it: &mut Named| it.kind.push('\0'),
        |it: &mut Named| it.key.push('\0'),
        |it: &mut Named| it.payload = json!("a\0b"),
        |it: &mut Named| it.payload = json!({ "a\0b": 1 }),
    ] {
        assert!(matches!(refused(nul), Unpublishable::Nul(_)));
    }
    for long in [
        |it: &mut Named| it.kind = "ä".repeat(256),
        |it: &mut Named| it.key = "ä".repeat(256),
    ] {
        assert!(matches!(refused(long), Unpublishable::TooLong { .. }));
    }
    let other = refused(|it| it.payload = json!({ "event_id": Uuid::from_u128(9) }));
    assert!(matches!(other, Unpublishable::IdsDiffer { .. }));
}

#[test]
fn an_untagged_event_is_refused() {
    #[derive(Serialize, Deserialize)]
    struct Plain {
        a: u8,
    }
    impl Event for Plain {
        const AGGREGATE_TYPE: &'static str = "plain";
        fn id(&self) -> Uuid {
            ID
        }
        fn aggregate_id(&self) -> String {
            String::new()
        }
    }
    let refused = Outgoing::new(&Plain { a: 1 });
    assert!(matches!(refused, Err(Unpublishable::Untagged(_))));
}

#[test]
fn an_aggregate_type_that_is_no_topic_is_refused() {
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "type", content = "payload")]
    enum Sale {
        Made(u8),
    }
    impl Event for Sale {
        const AGGREGATE_TYPE: &'static str = "sales order";
        fn id(&self) -> Uuid {
            ID
        }
        fn aggregate_id(&self) -> String {
            String::new()
        }
    }
    let refused = Outgoing::new(&Sale::Made(1));
    assert!(matches!(refused, Err(Unpublishable::Topic { .. })));
}
