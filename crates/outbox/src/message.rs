//! A Kafka message, and the event that it carries in any form that Debezium's outbox event router writes.
//!
//! If a header names the event's type, as in the [lean form](crate::specification::WireForm::Lean), the value is the payload, whole.
//! Otherwise the value is an envelope with the type and the payload: the payload as JSON text within a JSON string, or expanded, and all
//! of it with or without the schema that Connect's `JsonConverter` adds. The id is a header, or in the payload. Golden files captured from
//! the real Debezium hold this (`tests/wire_forms.rs`).
//!
//! A router with another converter puts the type in a header and wraps the value nevertheless. So if the whole value does not fit the
//! handler's type, [`Decoded::into_event`] takes the payload from within it. It never does so with an event that
//! [`Outgoing::new`](crate::Outgoing::new) has accepted, since that one fits whole.

use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::Value;
use uuid::Uuid;

use crate::json;

/// The position of a message in Kafka. Log it as Kafka's own tools do:
///
/// ```
/// use outbox::message::Position;
///
/// let at = Position { topic: "order".to_owned(), partition: 3, offset: 42 };
/// assert_eq!(format!("{}-{}@{}", at.topic, at.partition, at.offset), "order-3@42");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
}

/// A message as Kafka delivered it: bytes and their position.
///
/// ```
/// use outbox::message::{Message, Position};
///
/// #[derive(serde::Deserialize)]
/// #[serde(tag = "type", content = "payload")]
/// enum PaymentEvent {
///     #[serde(rename = "payment.received")]
///     Received { cents: u32 },
/// }
///
/// let message = Message {
///     at: Position { topic: "payment".to_owned(), partition: 0, offset: 42 },
///     timestamp: None,
///     key: None,
///     headers: vec![("event_type".to_owned(), Some(b"payment.received".to_vec()))],
///     value: Some(br#"{"cents": 250}"#.to_vec()),
/// };
/// let decoded = message.decode().map_err(|(_, why)| why)?;
/// assert_eq!(decoded.event_type, "payment.received");
/// let PaymentEvent::Received { cents } = decoded.into_event()?;
/// assert_eq!(cents, 250);
/// # Ok::<(), outbox::message::Undecodable>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its position.
    pub at: Position,
    /// Milliseconds since the Unix epoch, set by the producer or the broker.
    pub timestamp: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// Headers in their order; a name may repeat, a value may be absent.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
}

/// The event that a message carries, its payload not typed yet.
///
/// ```
/// use outbox::message::{Decoded, Message, Position};
///
/// let message = Message {
///     at: Position { topic: "note".to_owned(), partition: 0, offset: 0 },
///     timestamp: None,
///     key: None,
///     headers: vec![("event_type".to_owned(), Some(b"note.taken".to_vec()))],
///     value: Some(br#"{"text": "hi"}"#.to_vec()),
/// };
/// let Decoded { event_type, payload, .. } = message.decode().unwrap();
/// assert_eq!((event_type.as_str(), &payload["text"]), ("note.taken", &"hi".into()));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The event's id: the header `id`, else the payload's `event_id`, else a UUID hashed from the message's position, timestamp and
    /// bytes. The inbox knows the event by it.
    pub id: Uuid,
    /// The event's type, such as `order.placed`.
    pub event_type: String,
    /// The event's payload; the whole value if a header names the type.
    pub payload: Value,
    /// What is wrapped in the payload, if a header names the type and the value looks like a wrapper.
    wrapped: Option<Value>,
}

/// Why a message carries no event. It never will: to decode it again gives the same error, so a listener dead-letters it as poison.
///
/// ```
/// use outbox::message::{Message, Position, Undecodable};
///
/// let tombstone = Message {
///     at: Position { topic: "payment".to_owned(), partition: 0, offset: 42 },
///     timestamp: None,
///     key: Some(b"1".to_vec()),
///     headers: Vec::new(),
///     value: None,
/// };
/// let (_, why) = tombstone.decode().expect_err("it has no value");
/// assert!(matches!(why, Undecodable::NoValue));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// A null value: a tombstone, which an outbox never publishes.
    #[error("the message has no value")]
    NoValue,
    /// The value, or the text within it, is not JSON.
    #[error("the value is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// Neither a header nor the envelope names the event's type.
    #[error("neither a header `event_type` nor the envelope names the event's type")]
    NoType,
    /// The header `id` is not a UUID.
    #[error("the header `id` is not a UUID: {0:?}")]
    BadId(String),
    /// The nil UUID identifies no event: a producer that sends it sends it with each.
    #[error("the event's id is the nil UUID")]
    NilId,
    /// The header and the payload name different events.
    #[error("the header `id` is {header}, but the payload's `event_id` is {payload}")]
    IdsDiffer {
        /// The id in the header.
        header: Uuid,
        /// The id in the payload.
        payload: Uuid,
    },
    /// The handler's event type has no variant of this name, or the payload does not fit it.
    #[error("no event of type {event_type:?}: {source}")]
    NotAnEvent {
        /// The type that the message names.
        event_type: String,
        /// The part that does not fit.
        source: serde_json::Error,
    },
}

/// The namespace of the ids that are hashed from messages.
const DERIVED: Uuid = Uuid::from_u128(0x8f2c_1c6e_5b0a_4d2b_9a7f_3f0e_6f6b_21d4);

/// The names by which configurations in use call the header or field with the event's type.
const TYPE_NAMES: [&str; 2] = ["event_type", "eventType"];

impl Message {
    /// Decodes the event that the message carries.
    ///
    /// # Errors
    /// [`Undecodable`], and the id under which a listener dead-letters the message: hashed from the message itself, whatever id it bears.
    pub fn decode(&self) -> Result<Decoded, (Uuid, Undecodable)> {
        // Under the id of another event, garbage would be ignored if that event is settled, and would keep it out if not.
        let undecodable = |why| (self.derived_id(), why);
        let header_id = self.header_id().map_err(undecodable)?;
        let bytes = self
            .value
            .as_deref()
            .ok_or_else(|| undecodable(Undecodable::NoValue))?;
        let value = json::parse(bytes).map_err(|error| undecodable(Undecodable::NotJson(error)))?;
        let not_json = |error| undecodable(Undecodable::NotJson(error));
        let (event_type, payload, wrapped) = if let Some(event_type) = self.header_type() {
            let wrapped = is_wrapped(&value).then(|| unwrap(value.clone()).ok());
            (
                event_type,
                value,
                wrapped.flatten().map(|(_, payload)| payload),
            )
        } else {
            let (event_type, payload) = unwrap(value).map_err(not_json)?;
            let event_type = event_type.ok_or_else(|| undecodable(Undecodable::NoType))?;
            (event_type, payload, None)
        };
        let id = match (header_id, event_id(&payload)) {
            (Some(header), Some(payload)) if header != payload => {
                return Err(undecodable(Undecodable::IdsDiffer { header, payload }));
            }
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => (wrapped.as_ref())
                .and_then(event_id)
                .unwrap_or_else(|| self.derived_id()),
        };
        if id.is_nil() {
            return Err(undecodable(Undecodable::NilId));
        }
        Ok(Decoded {
            id,
            event_type,
            payload,
            wrapped,
        })
    }

    fn header(&self, name: &str) -> Option<String> {
        let bytes = self
            .headers
            .iter()
            .find(|(key, value)| key == name && value.is_some())
            .and_then(|(_, value)| value.as_deref())?;
        Some(header_text(&String::from_utf8_lossy(bytes)))
    }

    fn header_id(&self) -> Result<Option<Uuid>, Undecodable> {
        self.header("id")
            .map(|text| Uuid::try_parse(&text).map_err(|_| Undecodable::BadId(text)))
            .transpose()
    }

    fn header_type(&self) -> Option<String> {
        TYPE_NAMES.iter().find_map(|name| self.header(name))
    }

    /// An id hashed from the message itself. The position alone would repeat when a topic is recreated.
    fn derived_id(&self) -> Uuid {
        let mut hashed = Vec::new();
        for part in [
            Some(self.at.topic.as_bytes()),
            Some(&self.at.partition.to_be_bytes()),
            Some(&self.at.offset.to_be_bytes()),
            Some(&self.timestamp.unwrap_or(-1).to_be_bytes()),
            self.key.as_deref(),
            self.value.as_deref(),
        ] {
            let part = part.unwrap_or_default();
            hashed.extend_from_slice(&(part.len() as u64).to_be_bytes());
            hashed.extend_from_slice(part);
        }
        Uuid::new_v5(&DERIVED, &hashed)
    }
}

impl Decoded {
    /// The typed event: `E` is an enum that serde tags with `type` and `payload`, as for [`Event`](crate::Event).
    ///
    /// # Errors
    /// [`Undecodable::NotAnEvent`]: `E` has no variant of this type, or the payload does not fit it. [`Undecodable::IdsDiffer`]: it fits
    /// only what is wrapped in the payload, and that has another id.
    pub fn into_event<E: DeserializeOwned>(self) -> Result<E, Undecodable> {
        let Self {
            id,
            event_type,
            payload,
            wrapped,
        } = self;
        let source = match (typed(&event_type, payload), wrapped) {
            (Ok(event), _) => return Ok(event),
            (Err(source), None) => source,
            (Err(_), Some(wrapped)) => match event_id(&wrapped) {
                Some(payload) if payload != id => {
                    return Err(Undecodable::IdsDiffer {
                        header: id,
                        payload,
                    });
                }
                _ => match typed(&event_type, wrapped) {
                    Ok(event) => return Ok(event),
                    Err(source) => source,
                },
            },
        };
        Err(Undecodable::NotAnEvent { event_type, source })
    }
}

/// The event of a type and a payload.
///
/// The type comes first: serde would buffer a payload that precedes it, and a buffered one has lost what it knew of its numbers and keys.
pub(crate) fn typed<E: DeserializeOwned>(
    event_type: &str,
    payload: Value,
) -> Result<E, serde_json::Error> {
    let tagged = [("type", Value::from(event_type)), ("payload", payload)];
    E::deserialize(MapDeserializer::new(tagged.into_iter()))
}

/// The id within a payload.
pub(crate) fn event_id(payload: &Value) -> Option<Uuid> {
    Uuid::try_parse(payload.get("event_id")?.as_str()?).ok()
}

/// A header's text. Connect's `JsonConverter` for headers quotes it, with or without a schema around it.
pub(crate) fn header_text(text: &str) -> String {
    let quoted = match json::parse(text.as_bytes()) {
        Ok(Value::String(quoted)) => Some(quoted),
        Ok(Value::Object(mut wrapped)) => match wrapped.remove("payload") {
            Some(Value::String(quoted)) => Some(quoted),
            _ => None,
        },
        _ => None,
    };
    quoted.unwrap_or_else(|| text.to_owned())
}

/// Whether a value may be a payload that a converter or the router has wrapped.
fn is_wrapped(value: &Value) -> bool {
    value.is_string() || value.get("payload").is_some()
}

/// The payload within a value, and the type if an envelope names it.
fn unwrap(value: Value) -> Result<(Option<String>, Value), serde_json::Error> {
    let (event_type, value) = without_envelope(without_schema(value));
    let payload = match value {
        Value::String(text) => json::parse(text.as_bytes())?,
        expanded => expanded,
    };
    Ok((event_type, payload))
}

/// Unwraps the router's envelope: the payload, the event's type, and the fields of an additional placement, if any.
fn without_envelope(value: Value) -> (Option<String>, Value) {
    let Value::Object(mut envelope) = value else {
        return (None, value);
    };
    let name = TYPE_NAMES
        .iter()
        .find(|name| envelope.get(**name).is_some_and(Value::is_string));
    match name {
        Some(name) if envelope.contains_key("payload") => {
            let event_type = envelope
                .get(*name)
                .and_then(Value::as_str)
                .map(str::to_owned);
            (
                event_type,
                envelope.remove("payload").unwrap_or(Value::Null),
            )
        }
        _ => (None, Value::Object(envelope)),
    }
}

/// Unwraps what Connect's `JsonConverter` writes with `schemas.enable=true`: exactly `{"schema": {…}, "payload": …}`, or a null schema.
fn without_schema(value: Value) -> Value {
    match value {
        Value::Object(mut wrapped)
            if wrapped.len() == 2
                && wrapped
                    .get("schema")
                    .is_some_and(|schema| schema.is_object() || schema.is_null())
                && wrapped.contains_key("payload") =>
        {
            wrapped.remove("payload").unwrap_or(Value::Null)
        }
        bare => bare,
    }
}

#[cfg(test)]
mod tests;
