//! Every wire form decodes to the same event.

use serde::Deserialize;
use serde_json::json;

use super::*;

const ID: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

fn payload() -> Value {
    json!({ "event_id": ID, "order_id": "o1", "quantity": 2 })
}

fn message(headers: &[(&str, &str)], value: &str) -> Message {
    Message {
        at: Position {
            topic: "order".to_owned(),
            partition: 3,
            offset: 42,
        },
        timestamp: Some(1_700_000_000_000),
        key: Some(b"o1".to_vec()),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())))
            .collect(),
        value: Some(value.as_bytes().to_vec()),
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum OrderEvent {
    #[serde(rename = "order.placed")]
    Placed {
        event_id: Uuid,
        order_id: String,
        quantity: u32,
    },
}

#[test]
fn every_wire_form_decodes_to_the_same_event() {
    let text = payload().to_string();
    let schema = json!({ "type": "string", "optional": false });
    let id = ID.to_string();
    let in_headers = [("id", id.as_str()), ("event_type", "order.placed")];
    let quoted = [
        ("id", &*format!("\"{id}\"")),
        ("eventType", "{\"schema\":{},\"payload\":\"order.placed\"}"),
    ];
    let only_id = [("id", id.as_str())];
    let forms: [(&[(&str, &str)], Value); 12] = [
        (&in_headers, payload()),
        (&in_headers, json!(text)),
        (&in_headers, json!({ "schema": schema, "payload": text })),
        (
            &in_headers,
            json!({ "schema": schema, "payload": payload() }),
        ),
        (&quoted, payload()),
        (
            &in_headers,
            json!({ "payload": text, "event_type": "of the envelope" }),
        ),
        (&in_headers, json!({ "schema": null, "payload": payload() })),
        (
            &only_id,
            json!({ "payload": text, "event_type": "order.placed" }),
        ),
        (
            &only_id,
            json!({ "payload": payload(), "eventType": "order.placed" }),
        ),
        (
            &[],
            json!({ "payload": text, "event_type": "order.placed" }),
        ),
        (
            &[],
            json!({ "schema": schema, "payload": { "payload": text, "event_type": "order.placed" } }),
        ),
        (
            &[],
            json!({ "schema": schema, "payload": { "payload": payload(), "event_type": "order.placed" } }),
        ),
    ];
    let expected = OrderEvent::Placed {
        event_id: ID,
        order_id: "o1".to_owned(),
        quantity: 2,
    };
    for (headers, value) in forms {
        let decoded = message(headers, &value.to_string()).decode().unwrap();
        assert_eq!(decoded.id, ID, "{value}");
        assert_eq!(
            decoded.into_event::<OrderEvent>().unwrap(),
            expected,
            "{value}"
        );
    }
}

#[test]
fn the_value_is_the_payload_whole_if_a_header_names_the_type() {
    for payload in [
        json!("123"),
        json!({ "event_type": "x", "payload": "1" }),
        json!({ "schema": {}, "payload": 1 }),
    ] {
        let decoded = message(&[("event_type", "t")], &payload.to_string()).decode();
        assert_eq!(decoded.unwrap().payload, payload);
    }
}

#[test]
fn a_wrapped_payload_of_another_id_than_the_header_is_undecodable() {
    #[derive(Debug, Deserialize)]
    #[serde(tag = "type", content = "payload")]
    enum Known {
        #[serde(rename = "order.placed")]
        Placed { quantity: u32 },
    }
    let other = Uuid::from_u128(9).to_string();
    let headers = [("id", other.as_str()), ("event_type", "order.placed")];
    let wrapped = json!({ "schema": null, "payload": payload() }).to_string();
    let decoded = message(&headers, &wrapped).decode().unwrap();
    let why = decoded
        .into_event::<Known>()
        .map(|Known::Placed { quantity }| quantity);
    assert!(matches!(why, Err(Undecodable::IdsDiffer { .. })));
}

#[test]
fn each_undecodable_message_names_the_reason() {
    let typed = [("event_type", "order.placed")];
    let why = |message: Message| message.decode().unwrap_err().1;
    assert!(matches!(
        why(message(&typed, "not json")),
        Undecodable::NotJson(_)
    ));
    assert!(matches!(
        why(message(
            &[],
            r#"{"payload": "not json", "event_type": "t"}"#
        )),
        Undecodable::NotJson(_)
    ));
    assert!(matches!(why(message(&[], "{}")), Undecodable::NoType));
    assert!(matches!(
        why(message(&[("id", "x")], "{}")),
        Undecodable::BadId(_)
    ));
    let tombstone = Message {
        value: None,
        ..message(&typed, "")
    };
    assert!(matches!(why(tombstone), Undecodable::NoValue));
}

#[test]
fn ids_that_differ_in_header_and_payload_are_poison_under_neither() {
    let other = Uuid::from_u128(9).to_string();
    let disputed = message(
        &[("id", &other), ("event_type", "order.placed")],
        &payload().to_string(),
    );
    let (id, why) = disputed.decode().unwrap_err();
    assert!(matches!(why, Undecodable::IdsDiffer { .. }));
    assert!(id != ID && id.to_string() != other);
}

#[test]
fn the_nil_uuid_is_no_id() {
    let nil = Uuid::nil().to_string();
    let payload = json!({ "event_id": nil }).to_string();
    for headers in [
        &[("event_type", "t")][..],
        &[("id", nil.as_str()), ("event_type", "t")],
    ] {
        let (id, why) = message(headers, &payload).decode().unwrap_err();
        assert!(matches!(why, Undecodable::NilId));
        assert!(!id.is_nil());
    }
}

#[test]
fn messages_without_an_id_at_the_same_position_have_ids_of_their_own() {
    let first = message(&[("event_type", "t")], "{\"a\":1}");
    let again = message(&[("event_type", "t")], "{\"a\":1}");
    let recreated = Message {
        timestamp: Some(1),
        ..first.clone()
    };
    let id = |message: &Message| message.decode().unwrap().id;
    assert_eq!(id(&first), id(&again));
    assert_ne!(id(&first), id(&recreated));
}

#[test]
fn an_unknown_event_type_is_undecodable() {
    #[derive(Debug, Deserialize)]
    #[serde(tag = "type", content = "payload")]
    enum Known {
        #[serde(rename = "order.placed")]
        Placed { quantity: u32 },
    }
    let decode = |kind| message(&[("event_type", kind)], &payload().to_string()).decode();
    let Known::Placed { quantity } = decode("order.placed").unwrap().into_event().unwrap();
    assert_eq!(quantity, 2);
    let unknown = decode("order.lost").unwrap().into_event::<Known>();
    assert!(matches!(unknown, Err(Undecodable::NotAnEvent { .. })));
}
