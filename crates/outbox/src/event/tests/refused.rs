//! What would not arrive as it is, refused with the reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ID, Note};
use crate::event::*;

fn refusal<T: Serialize + DeserializeOwned>(content: T) -> String {
    Outgoing::new(&Note::Made(content)).unwrap_err().to_string()
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
