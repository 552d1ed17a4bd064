//! A Kafka message as it came, and the event that it carries, in whichever form the router wrote it.
//!
//! Accepted, each with or without the schema that Connect's `JsonConverter` adds:
//! the payload as JSON text, the payload as JSON text within a JSON string, the payload expanded, and any of
//! them within an envelope that also names the event's type. The id and the type may stand in headers.

mod json;

use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

/// Where a message stands in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
}

/// A message as it came: bytes and their position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it stands.
    pub at: Position,
    /// Milliseconds since the Unix epoch, as the producer or the broker set them.
    pub timestamp: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// Headers in their order; a name may repeat, a value may be absent.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
}

/// What a message turned out to carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The event's id: the header `id`, else the payload's `event_id`, else derived from the message itself.
    pub id: Uuid,
    /// The event's type, such as `order.placed`.
    pub event_type: String,
    /// The event's payload.
    pub payload: Value,
}

/// Why bytes are no event. Reading them again gives the same answer.
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
    /// The nil UUID names nothing: whoever sends it sends it for every event.
    #[error("the event's id is the nil UUID")]
    NilId,
    /// Header and payload name different events.
    #[error("the header `id` is {header}, but the payload's `event_id` is {payload}")]
    IdsDiffer {
        /// What the header says.
        header: Uuid,
        /// What the payload says.
        payload: Uuid,
    },
    /// The type is unknown, or the payload is not of its shape.
    #[error("no event of type {event_type:?}: {source}")]
    NotAnEvent {
        /// The type that the message names.
        event_type: String,
        /// What does not fit.
        source: serde_json::Error,
    },
}

/// The namespace of ids derived from messages that carry none.
const DERIVED: Uuid = Uuid::from_u128(0x8f2c_1c6e_5b0a_4d2b_9a7f_3f0e_6f6b_21d4);

/// Names that routers in use give the header or field with the event's type.
const TYPE_NAMES: [&str; 2] = ["event_type", "eventType"];

impl Message {
    /// The event that the message carries, not yet typed.
    ///
    /// # Errors
    /// [`Undecodable`], together with the id under which the message is dead-lettered.
    pub fn open(&self) -> Result<Opened, (Uuid, Undecodable)> {
        // Garbage is dead-lettered under an id of its own, whatever it says of itself: under another event's id it would be
        // passed over where that event is settled, and else keep that event out.
        let put_aside = |why| (self.derived_id(), why);
        let header_id = self.header_id().map_err(put_aside)?;
        let bytes = self
            .value
            .as_deref()
            .ok_or_else(|| put_aside(Undecodable::NoValue))?;
        let value = json::parse(bytes).map_err(|error| put_aside(Undecodable::NotJson(error)))?;
        let (event_type, payload) = unwrap(value, self.header_type()).map_err(put_aside)?;

        let payload_id = payload
            .get("event_id")
            .and_then(Value::as_str)
            .and_then(|text| Uuid::try_parse(text).ok());
        let id = match (header_id, payload_id) {
            (Some(header), Some(payload)) if header != payload => {
                return Err(put_aside(Undecodable::IdsDiffer { header, payload }));
            }
            (Some(id), _) | (None, Some(id)) if id.is_nil() => {
                return Err(put_aside(Undecodable::NilId));
            }
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => self.derived_id(),
        };
        Ok(Opened {
            id,
            event_type,
            payload,
        })
    }

    fn header(&self, name: &str) -> Option<String> {
        let bytes = self
            .headers
            .iter()
            .find(|(key, value)| key == name && value.is_some())
            .and_then(|(_, value)| value.as_deref())?;
        let text = String::from_utf8_lossy(bytes);
        // A header converter that writes JSON quotes the text, with or without a schema around it.
        let plain = match json::parse(text.as_bytes()) {
            Ok(Value::String(quoted)) => Some(quoted),
            Ok(Value::Object(mut wrapped)) => match wrapped.remove("payload") {
                Some(Value::String(quoted)) => Some(quoted),
                _ => None,
            },
            _ => None,
        };
        Some(plain.unwrap_or_else(|| text.into_owned()))
    }

    fn header_id(&self) -> Result<Option<Uuid>, Undecodable> {
        self.header("id")
            .map(|text| Uuid::try_parse(&text).map_err(|_| Undecodable::BadId(text)))
            .transpose()
    }

    fn header_type(&self) -> Option<String> {
        TYPE_NAMES.iter().find_map(|name| self.header(name))
    }

    /// A message's own identity. Its position alone repeats when a topic is made again.
    fn derived_id(&self) -> Uuid {
        let mut seed = Vec::new();
        for part in [
            Some(self.at.topic.as_bytes()),
            Some(&self.at.partition.to_be_bytes()),
            Some(&self.at.offset.to_be_bytes()),
            Some(&self.timestamp.unwrap_or(-1).to_be_bytes()),
            self.key.as_deref(),
            self.value.as_deref(),
        ] {
            let part = part.unwrap_or_default();
            seed.extend_from_slice(&(part.len() as u64).to_be_bytes());
            seed.extend_from_slice(part);
        }
        Uuid::new_v5(&DERIVED, &seed)
    }
}

impl Opened {
    /// The typed event.
    ///
    /// # Errors
    /// [`Undecodable::NotAnEvent`]: an unknown type, or a payload that is not of its type's shape.
    pub fn decode<E: DeserializeOwned>(self) -> Result<E, Undecodable> {
        let Self {
            event_type,
            payload,
            ..
        } = self;
        // Not by `json!`, which copies the payload.
        let tagged = [
            ("type".to_owned(), Value::from(event_type.as_str())),
            ("payload".to_owned(), payload),
        ];
        serde_json::from_value(Value::Object(tagged.into_iter().collect()))
            .map_err(|source| Undecodable::NotAnEvent { event_type, source })
    }
}

/// The event's type and payload out of a message's value; a type in a header wins over the envelope's.
fn unwrap(value: Value, header_type: Option<String>) -> Result<(String, Value), Undecodable> {
    let (named, value) = without_envelope(without_schema(value));
    let event_type = header_type.or(named).ok_or(Undecodable::NoType)?;
    let payload = match value {
        Value::String(text) => json::parse(text.as_bytes()).map_err(Undecodable::NotJson)?,
        expanded => expanded,
    };
    Ok((event_type, payload))
}

/// The router's envelope is the payload and the event's type, and at most further fields that were asked for.
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

/// Connect's `JsonConverter` with `schemas.enable=true` writes exactly `{"schema": {…}, "payload": …}`, the schema null
/// where there is none.
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
