//! Payloads of every type that serde writes differently.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Note;

/// Every type that serde writes differently.
#[expect(clippy::option_option, reason = "an event may have one")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Content {
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
pub(super) enum Untagged {
    Integer(i64),
    Float(f64),
    Text(String),
    Pair(u8, f32),
    Map(BTreeMap<u8, f64>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "payload")]
pub(super) enum Internal {
    Number { event_type: f64, schema: u64 },
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Flat {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unset: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Unit {
    One,
    #[serde(rename = "$serde_json::private::Number")]
    Two,
}

/// Texts that a reader might take for something else.
pub(super) fn text() -> impl Strategy<Value = String> {
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
pub(super) fn float() -> impl Strategy<Value = f64> {
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
pub(super) fn any_value() -> impl Strategy<Value = Value> {
    any_value_of(text().prop_filter("serde_json's own", |name| !name.starts_with("$serde_json")))
}

pub(super) fn any_value_of(
    name: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = Value> {
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
pub(super) fn content() -> impl Strategy<Value = Content> {
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
pub(super) fn wild() -> impl Strategy<Value = Content> {
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

pub(super) fn note<T: Debug + Clone + 'static>(
    content: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Note<T>> {
    prop_oneof![
        8 => content.prop_map(|content| Note::Made(content)).boxed(),
        1 => Just(Note::Seen),
    ]
}
