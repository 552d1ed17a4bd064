//! Domain events, and the outbox rows that publish them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::message::{event_id, header_text, typed};
use crate::topic::InvalidTopic;
use crate::{json, topic};

/// The most characters of an aggregate's id and of an event's type: the columns' lengths.
const MAX_LENGTH: usize = 255;

/// The domain events about one kind of aggregate: an enum that serde tags adjacently.
///
/// The variant's name is the event's type, its content the payload. A consumer in Rust deserializes the same enum, as
/// `listener::Handler::Event`. It is deserialized on this side too: [`Outgoing::new`] refuses an event that would not read back.
///
/// # Types
/// Any payload that serde writes as JSON and reads back as the same will do: strings that look like JSON, maps with integer keys, untagged
/// and flattened types, a unit variant (its payload is `null`). [`Outgoing::new`] tries it on each event, so that what does not read back
/// is an error of the transaction that appends, not of a listener weeks later.
///
/// # Numbers
/// Integers from `i64::MIN` to `u64::MAX` arrive as they are, and so do floats, bit for bit. JSON has neither NaN nor infinities, and
/// `jsonb` no negative zero: such an event is refused. So is a number of more than 64 bits. Make a decimal, such as an amount of money, a
/// string.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use uuid::Uuid;
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", content = "payload")]
/// enum PaymentEvent {
///     #[serde(rename = "payment.received")]
///     Received { event_id: Uuid, payment_id: Uuid, cents: u32 },
/// }
///
/// impl outbox::Event for PaymentEvent {
///     const AGGREGATE_TYPE: &'static str = "payment";
///
///     fn id(&self) -> Uuid {
///         match self { Self::Received { event_id, .. } => *event_id }
///     }
///
///     fn aggregate_id(&self) -> String {
///         match self { Self::Received { payment_id, .. } => payment_id.to_string() }
///     }
/// }
/// ```
pub trait Event: Serialize + DeserializeOwned {
    /// The kind of aggregate. Debezium's outbox event router makes it the topic's name: letters, digits, `.`, `_` and `-`, 249 at most.
    const AGGREGATE_TYPE: &'static str;

    /// The event's own id, by which an inbox recognizes a redelivery; never the nil UUID. Version 7, for its order in the index; if the
    /// payload has an `event_id`, that equals it.
    fn id(&self) -> Uuid;

    /// The aggregate's id. The router makes it the message's key, so that the events of an aggregate keep their order; 255 characters at
    /// most.
    fn aggregate_id(&self) -> String;
}

/// A row of the outbox, ready for [`append`](crate::append).
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum NoteEvent {
/// #     #[serde(rename = "note.written")]
/// #     Written { id: uuid::Uuid, text: String },
/// # }
/// # impl outbox::Event for NoteEvent {
/// #     const AGGREGATE_TYPE: &'static str = "note";
/// #     fn id(&self) -> uuid::Uuid { let Self::Written { id, .. } = self; *id }
/// #     fn aggregate_id(&self) -> String { "1".to_owned() }
/// # }
/// let event = NoteEvent::Written { id: uuid::Uuid::now_v7(), text: "hello".to_owned() };
/// let row = outbox::Outgoing::new(&event)?;
/// let NoteEvent::Written { id, .. } = event;
/// assert_eq!(row.id(), id);
/// # Ok::<(), outbox::Unpublishable>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub(crate) id: Uuid,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) event_type: String,
    pub(crate) payload: String,
}

/// Why an event has no form as a row of the outbox. It never will: the fault is in the program or in the event's content.
///
/// A service whose clients write the content should check for U+0000 where it parses a request, since this error comes too late for a
/// client's mistake to be distinguished from the service's.
///
/// ```
/// use outbox::{Outgoing, Unpublishable};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum NoteEvent { #[serde(rename = "note.taken")] Taken { text: String } }
/// # impl outbox::Event for NoteEvent {
/// #     const AGGREGATE_TYPE: &'static str = "note";
/// #     fn id(&self) -> uuid::Uuid { uuid::Uuid::from_u128(7) }
/// #     fn aggregate_id(&self) -> String { "1".to_owned() }
/// # }
///
/// let refused = Outgoing::new(&NoteEvent::Taken { text: "a\0b".to_owned() });
/// assert!(matches!(refused, Err(Unpublishable::Nul(_))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unpublishable {
    /// `Serialize` of the event's type fails, or the event has a number that would not arrive as it is.
    #[error("the event does not serialize: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The event's type is not tagged as [`Event`] needs it.
    #[error(
        "the event must be an enum that is tagged with #[serde(tag = \"type\", content = \"payload\")]: {0}"
    )]
    Untagged(Value),
    /// Payload, type or aggregate's id contain U+0000, which PostgreSQL cannot store. Found before the database sees it, since an error
    /// there would end the caller's transaction.
    #[error("event {0} contains U+0000, which PostgreSQL cannot store")]
    Nul(Uuid),
    /// The nil UUID identifies no event.
    #[error(
        "the event's id is the nil UUID; give each event an id of its own, such as Uuid::now_v7()"
    )]
    NilId,
    /// The payload's `event_id` is not the event's id: no listener would know which of them to trust.
    #[error("event {id} names itself {payload} in the field `event_id` of its payload")]
    IdsDiffer {
        /// The event's id.
        id: Uuid,
        /// The id in the payload.
        payload: Uuid,
    },
    /// No event can go to a topic of the name of the aggregate's type.
    #[error("the aggregate type {name:?} is no name of a topic: {source}")]
    Topic {
        /// The aggregate's type.
        name: String,
        /// What is wrong with it.
        source: InvalidTopic,
    },
    /// A header does not carry the event's type as it is: it is empty, or reads as quoted JSON.
    #[error(
        "the event type {0:?} is empty, or reads as JSON in quotes; take a plain name such as order.placed"
    )]
    Type(String),
    /// The event's type or the aggregate's id has more than 255 characters.
    #[error("{what} of event {id} has more than {MAX_LENGTH} characters")]
    TooLong {
        /// The event's id.
        id: Uuid,
        /// What is too long.
        what: &'static str,
    },
    /// `Deserialize` of the event's type does not read what its `Serialize` has written.
    #[error("event {id} does not read back: {source}")]
    Undecodable {
        /// The event's id.
        id: Uuid,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The event reads back as another one, such as by an untagged enum whose first variant fits too.
    #[error("event {id} reads back as another event: {read} instead of {written}")]
    Changed {
        /// The event's id.
        id: Uuid,
        /// The event as it was written.
        written: String,
        /// The event as it was read.
        read: String,
    },
}

impl Outgoing {
    /// Serializes `event` into the row that publishes it, and reads it back: what this accepts, a listener receives, equal, in either
    /// [form on the wire](crate::specification::WireForm).
    ///
    /// # Cost
    /// Serializing it twice and deserializing it twice, a few microseconds for a small event.
    ///
    /// # Errors
    /// [`Unpublishable`]. The database refuses a payload that is too large later, in [`append`](crate::append).
    pub fn new<E: Event>(event: &E) -> Result<Self, Unpublishable> {
        let id = event.id();
        let written = json::write(event)?;
        let (event_type, payload) = untag(json::parse_unique(written.as_bytes())?)?;
        let row = Self {
            id,
            aggregate_type: E::AGGREGATE_TYPE.to_owned(),
            aggregate_id: event.aggregate_id(),
            event_type,
            payload: json::write(&payload)?,
        };
        row.check(&payload)?;
        let read: E = typed(&row.event_type, payload)
            .map_err(|source| Unpublishable::Undecodable { id, source })?;
        let read = json::write(&read)?;
        // A map's entries may come in another order.
        if read != written && json::parse(read.as_bytes())? != json::parse(written.as_bytes())? {
            return Err(Unpublishable::Changed { id, written, read });
        }
        Ok(row)
    }

    fn check(&self, payload: &Value) -> Result<(), Unpublishable> {
        let id = self.id;
        if id.is_nil() {
            return Err(Unpublishable::NilId);
        }
        if let Some(payload) = event_id(payload).filter(|payload| *payload != id) {
            return Err(Unpublishable::IdsDiffer { id, payload });
        }
        topic::check(&self.aggregate_type).map_err(|source| Unpublishable::Topic {
            name: self.aggregate_type.clone(),
            source,
        })?;
        if self.event_type.is_empty() || header_text(&self.event_type) != self.event_type {
            return Err(Unpublishable::Type(self.event_type.clone()));
        }
        for (what, text) in [
            ("the type", &self.event_type),
            ("the aggregate's id", &self.aggregate_id),
        ] {
            if text.contains('\0') {
                return Err(Unpublishable::Nul(id));
            }
            if text.chars().count() > MAX_LENGTH {
                return Err(Unpublishable::TooLong { id, what });
            }
        }
        if has_nul(payload) {
            return Err(Unpublishable::Nul(id));
        }
        Ok(())
    }

    /// The event's id: the row's primary key and, on the wire, the header `id`.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Type and payload of an event that is tagged as [`Event`] needs it. A unit variant has no payload: it goes as null.
fn untag(mut tagged: Value) -> Result<(String, Value), Unpublishable> {
    let fields = tagged.as_object().map_or(0, serde_json::Map::len);
    let has_payload = tagged.get("payload").is_some();
    match tagged["type"].as_str().map(str::to_owned) {
        Some(event_type) if fields == 1 + usize::from(has_payload) => {
            let payload = tagged.get_mut("payload").map_or(Value::Null, Value::take);
            Ok((event_type, payload))
        }
        _ => Err(Unpublishable::Untagged(tagged)),
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
